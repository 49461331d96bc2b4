"""The program: refused in one line where it would be unsafe or cannot draw; it ends gracefully."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest
from running import help_imports_torch, start_program

for name in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
    pytest.importorskip(name, reason="needs the server's packages: pip install -e '.[server]'")

from PIL import Image  # noqa: E402

from apps.server.__main__ import is_loopback, main  # noqa: E402
from ldm.images.embed import parameters_in  # noqa: E402

PROGRAM = "apps/server/__main__.py"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    monkeypatch.delenv("LDM_SERVER_KEYS", raising=False)


def test_help_imports_no_torch():
    assert not help_imports_torch(PROGRAM)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--host", "0.0.0.0"], "without keys, so that strangers could draw"),
        (["--keys", "nowhere"], "--keys nowhere cannot be read"),
        (["--cors", "draw.example.org"], "expected origins with a scheme"),
        (["--batch_size", "0"], "--batch_size 0 was given"),
        (["--batchsize", "4"], "did you mean --batch_size?"),
        (["--ckpt", "nowhere.ckpt"], "nowhere.ckpt"),
        (["--glossary", "nowhere.txt"], "nowhere.txt"),
        (["--wildcards", "nowhere"], "--wildcards nowhere does not exist"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, flags, told):
    monkeypatch.chdir(tmp_path)
    assert main([*flags, "--port", "0"]) == 2
    err = capsys.readouterr().err
    assert told in err and err.startswith("server: error: ") and err.count("\n") == 1


def test_a_taken_port_is_told_before_a_model_is_looked_for(capsys):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert main(["--port", str(listener.getsockname()[1]), "--ckpt", "nowhere"]) == 2
    assert "cannot be served" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_addresses_of_this_machine_alone_need_no_key(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.evil"])
def test_all_others_do(host):
    assert not is_loopback(host)


def test_a_model_that_cannot_be_loaded_ends_the_program_with_its_reason(
    tiny_ckpt, tmp_path, capsys
):
    weights = tmp_path / Path(tiny_ckpt).name
    weights.write_bytes(Path(tiny_ckpt).read_bytes()[:1000])
    config = next(Path(tiny_ckpt).parent.glob("*.yaml"))
    flags = ["--ckpt", str(weights), "--config", str(config), "--port", "0", "--device", "cpu"]
    assert main(flags) == 2
    assert str(weights) in capsys.readouterr().err


def opened(port: int, path: str, body: dict | None = None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer open sesame"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    return urllib.request.urlopen(request, timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are not sent like this there")
def test_sigterm_lets_what_is_drawn_be_finished_and_fetched(tiny_ckpt, tmp_path):
    """The job is under way when the signal comes, and fetched after it."""
    keys = tmp_path / "keys"
    keys.write_text(f"anna:{hashlib.sha256(b'open sesame').hexdigest()}\n")
    flags = ("--ckpt", tiny_ckpt, "--device", "cpu", "--port", 0, "--keys", keys, "--grace", 60)
    process = start_program(PROGRAM, *flags, cwd=tmp_path)
    try:
        lines = [process.stdout.readline(), process.stdout.readline()]
        address = next(line for line in lines if line.startswith("http://"))
        assert "whoever has a key" in address and "The model is loaded: jobs are taken.\n" in lines
        port = int(address.split()[0].rpartition(":")[2])
        job = {"prompt": "a cat", "ddim_steps": 200, "seed": 5}
        with opened(port, "/v1/jobs", job) as answer:
            place = f"/v1/jobs/{json.load(answer)['id']}"
        with opened(port, f"{place}/events") as events:
            assert b"event: drawing\n" in iter(events.readline, b"")  # and reads up to there
            process.send_signal(signal.SIGTERM)
            assert b"event: done\n" in events.read()
        with opened(port, f"{place}/pictures/0") as answer:
            assert "Seed: 5" in parameters_in(Image.open(io.BytesIO(answer.read())))
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")

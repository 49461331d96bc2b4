"""Downloads from a local server: resumed, checked, put in place whole, or one clear line."""

from __future__ import annotations

import errno
import hashlib
import http.client
import http.server
import importlib.util
import io
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ldm.checkpoint.download import transfer
from ldm.checkpoint.download.connection import Source
from ldm.checkpoint.download.fetch import fetch
from ldm.checkpoint.download.sources import MODELS, Model, RemoteFile
from ldm.checkpoint.download.transfer import Patience
from ldm.errors import UserError

PROGRAM = Path(__file__).parents[2] / "scripts" / "download_models.py"
BODY = bytes(range(256)) * 1200  # 300 KiB
DIGEST = hashlib.sha256(BODY).hexdigest()
HASTY = Patience(retries=2, wait=0.0)


@dataclass
class Server:
    """A local web server that misbehaves as told, and what it was asked."""

    url: str = ""
    body: bytes = BODY
    resumes: bool = True  # honours Range
    cut_after: list[int] = field(default_factory=list)  # bytes sent per answer, then hang up
    statuses: list[int] = field(default_factory=list)  # answers to give before the file
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0


def answer(server: Server, request: http.server.BaseHTTPRequestHandler) -> None:
    server.asked.append({"path": request.path, **request.headers})
    if server.statuses:
        request.send_response(server.statuses.pop(0))
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    if server.redirect:
        request.send_response(302)
        request.send_header("Location", server.redirect)
        send_headers(request, {"Content-Length": "0", **server.headers})
        return
    body, start = server.body, 0
    span = re.match(r"bytes=(\d+)-", request.headers.get("Range", ""))
    if span and server.resumes:
        start = int(span[1])
        if start >= len(body):
            request.send_response(416)
            send_headers(request, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    else:
        request.send_response(200)
    send_headers(request, {"Content-Length": str(len(body) - start), **server.headers})
    rest = body[start:]
    if server.cut_after:
        rest = rest[: server.cut_after.pop(0)]
        request.close_connection = True
    server.sent += len(rest)
    request.wfile.write(rest)


def send_headers(request, headers: dict[str, str]) -> None:
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()


@pytest.fixture
def make_server():
    running = []

    def make(**behaviour) -> Server:
        server = Server(**behaviour)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802 - the library's name
                answer(server, self)

            def log_message(self, *args):
                pass

        http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        http_server.daemon_threads = True
        server.url = f"http://127.0.0.1:{http_server.server_port}"
        threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(http_server)
        return server

    yield make
    for http_server in running:
        http_server.shutdown()
        http_server.server_close()


@pytest.fixture(autouse=True)
def without_proxy_or_login(monkeypatch):
    for name in ("HF_TOKEN", "HF_ENDPOINT", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def source(server: Server, **changes) -> Source:
    return Source(**{"url": f"{server.url}/model.ckpt", "sha256": DIGEST, **changes})


def test_a_file_arrives_whole_with_its_progress(make_server, tmp_path):
    server, seen = make_server(), []
    target = tmp_path / "a" / "model.ckpt"
    fetched = fetch(source(server), target, progress=lambda *args: seen.append(args))
    assert fetched
    assert target.read_bytes() == BODY
    assert list(target.parent.iterdir()) == [target]
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))


def test_a_file_that_is_there_is_not_fetched_again(make_server, tmp_path):
    server = make_server()
    (tmp_path / "model.ckpt").write_bytes(BODY)
    assert not fetch(source(server), tmp_path / "model.ckpt")
    assert server.asked == []


def test_another_file_in_its_place_is_left_alone(make_server, tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"mine")
    with pytest.raises(UserError, match="another file"):
        fetch(source(make_server()), tmp_path / "model.ckpt")
    assert (tmp_path / "model.ckpt").read_bytes() == b"mine"


def test_a_part_is_resumed_and_not_fetched_twice(make_server, tmp_path):
    server = make_server()
    (tmp_path / "model.ckpt.part").write_bytes(BODY[:100_000])
    fetch(source(server), tmp_path / "model.ckpt")
    assert (tmp_path / "model.ckpt").read_bytes() == BODY
    assert server.asked[0]["Range"] == "bytes=100000-"
    assert server.sent == len(BODY) - 100_000


def test_a_broken_transfer_goes_on_by_itself(make_server, tmp_path):
    server = make_server(cut_after=[90_000, 90_000, 50_000])
    fetch(source(server), tmp_path / "model.ckpt", patience=HASTY)
    assert (tmp_path / "model.ckpt").read_bytes() == BODY
    assert len(server.asked) == 4
    assert server.sent == len(BODY)


def test_progress_renews_patience_but_silence_ends_it(make_server, tmp_path):
    server = make_server(cut_after=[10_000] * 5 + [0] * 9)
    with pytest.raises(UserError, match=r"50000 bytes, 3 times.*run again"):
        fetch(source(server), tmp_path / "model.ckpt", patience=HASTY)
    assert (tmp_path / "model.ckpt.part").stat().st_size == 50_000
    assert not (tmp_path / "model.ckpt").exists()
    server.cut_after.clear()
    fetch(source(server), tmp_path / "model.ckpt")
    assert (tmp_path / "model.ckpt").read_bytes() == BODY


def test_a_server_that_does_not_resume_is_read_from_the_start(make_server, tmp_path):
    server = make_server(resumes=False)
    (tmp_path / "model.ckpt.part").write_bytes(b"x" * 100_000)
    fetch(source(server), tmp_path / "model.ckpt")
    assert (tmp_path / "model.ckpt").read_bytes() == BODY


def test_a_complete_part_is_only_checked(make_server, tmp_path):
    server = make_server()
    (tmp_path / "model.ckpt.part").write_bytes(BODY)
    fetch(source(server), tmp_path / "model.ckpt")
    assert (tmp_path / "model.ckpt").read_bytes() == BODY
    assert server.sent == 0


def test_a_part_longer_than_the_file_is_thrown_away(make_server, tmp_path):
    (tmp_path / "model.ckpt.part").write_bytes(BODY + b"x")
    fetch(source(make_server()), tmp_path / "model.ckpt", patience=HASTY)
    assert (tmp_path / "model.ckpt").read_bytes() == BODY


@pytest.mark.parametrize("resumed", [False, True])
def test_a_wrong_digest_is_refused_and_nothing_is_left(resumed, make_server, tmp_path):
    if resumed:
        (tmp_path / "model.ckpt.part").write_bytes(b"other" * 100)
    wrong = DIGEST if resumed else "0" * 64
    with pytest.raises(UserError, match=f"SHA-256 .*expected {wrong}"):
        fetch(source(make_server(), sha256=wrong), tmp_path / "model.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_without_a_known_digest_the_hubs_own_is_checked(make_server, tmp_path):
    files = make_server()
    hub = make_server(redirect=f"{files.url}/x", headers={"X-Linked-Etag": f'"{DIGEST}"'})
    fetch(source(hub, sha256=None), tmp_path / "good")
    assert (tmp_path / "good").read_bytes() == BODY
    files.body = b"tampered" + BODY
    with pytest.raises(UserError, match=f"expected {DIGEST}"):
        fetch(source(hub, sha256=None), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_a_file_that_the_hub_announces_as_another_is_not_fetched(make_server, tmp_path):
    files = make_server()
    hub = make_server(redirect=f"{files.url}/x", headers={"X-Linked-Etag": f'"{"0" * 64}"'})
    with pytest.raises(UserError, match="has become another file"):
        fetch(source(hub), tmp_path / "model.ckpt")
    assert not (tmp_path / "model.ckpt.part").exists()


def test_the_token_goes_to_the_hub_and_to_no_other_host(make_server, tmp_path):
    files = make_server()
    hub = make_server(redirect=f"{files.url}/x".replace("127.0.0.1", "localhost"))
    fetch(source(hub, token="secret"), tmp_path / "model.ckpt")
    assert hub.asked[0]["Authorization"] == "Bearer secret"
    assert "Authorization" not in files.asked[0]
    assert "secret" not in repr(source(hub, token="secret"))


@pytest.mark.parametrize(
    ("status", "token", "words"),
    [
        (401, None, "asks for a login.*licence.*HF_TOKEN"),
        (403, "t", "HF_TOKEN does not open it"),
        (404, None, "not there"),
        (410, None, "not there"),
        (400, None, "refused"),
    ],
)
def test_a_refusal_says_what_to_do_and_is_not_repeated(status, token, words, make_server, tmp_path):
    server = make_server(statuses=[status])
    with pytest.raises(UserError, match=words) as error:
        fetch(source(server, token=token, page="https://hub/page"), tmp_path / "model.ckpt")
    assert len(server.asked) == 1
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model.ckpt").exists()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status, make_server, tmp_path):
    server = make_server(statuses=[status, status])
    fetch(source(server), tmp_path / "model.ckpt", patience=HASTY)
    assert (tmp_path / "model.ckpt").read_bytes() == BODY


def test_a_login_page_is_not_taken_for_the_file(make_server, tmp_path):
    server = make_server(body=b"<html>log in</html>", headers={"Content-Type": "text/html"})
    with pytest.raises(UserError, match="web page"):
        fetch(source(server, sha256=None), tmp_path / "model.ckpt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["http://127.0.0.1:9", "http://name.invalid"])
def test_no_network_is_told_at_once(host, tmp_path):
    with pytest.raises(UserError, match="no connection to .*HF_ENDPOINT"):
        fetch(Source(f"{host}/model.ckpt"), tmp_path / "model.ckpt")


def test_a_full_disk_is_told_before_the_transfer(make_server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": len(BODY) - 1})
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: usage)
    server = make_server()
    with pytest.raises(UserError, match="GB free"):
        fetch(source(server), tmp_path / "model.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_meanwhile_keeps_the_part(make_server, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() >= 2000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    server = make_server()
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "BLOCK", 1000)
        patch.setattr(io, "FileIO", Full)
        with pytest.raises(UserError, match="No space left.*run again"):
            fetch(source(server), tmp_path / "model.ckpt")
    assert (tmp_path / "model.ckpt.part").stat().st_size == 2000
    fetch(source(server), tmp_path / "model.ckpt")
    assert (tmp_path / "model.ckpt").read_bytes() == BODY
    assert server.asked[-1]["Range"] == "bytes=2000-"


# The program.


@pytest.fixture
def program(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("download_models", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    model = Model("a test", 0.1, "me/mine", "models/x", (RemoteFile("f.bin", "f.bin", DIGEST),))
    monkeypatch.setitem(MODELS, "tiny", model)
    return module


def test_a_name_is_fetched_from_the_endpoint_and_put_in_place(
    program, make_server, tmp_path, monkeypatch, capsys
):
    server = make_server()
    monkeypatch.setenv("HF_ENDPOINT", f"{server.url}/")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert program.main(["tiny"]) == 0
    assert (tmp_path / "models/x/f.bin").read_bytes() == BODY
    assert server.asked[0]["path"] == "/me/mine/resolve/main/f.bin"
    assert server.asked[0]["Authorization"] == "Bearer secret"
    shown = capsys.readouterr()
    assert f"put in place: {tmp_path / 'models/x/f.bin'}" in shown.out
    assert "secret" not in shown.out + shown.err
    assert program.main(["tiny"]) == 0
    assert "already there" in capsys.readouterr().out
    assert len(server.asked) == 1


def test_dest_names_another_folder(program, make_server, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", make_server().url)
    assert program.main(["tiny", "--dest", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there/f.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "no NAME given"),
        (["sd-v1_4"], "did you mean sd-v1-4"),
        (["zzz"], "expected one of sd-v1-4"),
    ],
)
def test_a_name_that_is_not_in_the_table_is_one_line(program, capsys, given, words):
    assert program.main(given) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == 1


def test_an_endpoint_that_is_no_address_is_one_line(program, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    assert program.main(["tiny"]) == 2
    assert "HF_ENDPOINT" in capsys.readouterr().err


@pytest.mark.parametrize("token", ["a\nb", "\x1b[31m", "hf_ü", "a\rHost: evil"])
def test_a_token_that_is_none_is_one_line_and_is_not_shown(
    token, program, make_server, monkeypatch, capsys
):
    server = make_server()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", token)
    assert program.main(["tiny"]) == 2
    shown = capsys.readouterr().err
    assert "HF_TOKEN holds characters" in shown and token not in shown
    assert server.asked == []


def test_a_line_says_what_was_not_checked(program, make_server, tmp_path, monkeypatch, capsys):
    files = (RemoteFile("c.json", "c.json", size=len(BODY)),)
    monkeypatch.setitem(MODELS, "tiny", Model("a test", 0.1, "me/mine", "models/x", files))
    monkeypatch.setenv("HF_ENDPOINT", make_server().url)
    assert program.main(["tiny"]) == 0
    told = "c.json: no SHA-256 of it is published; only its size was checked"
    assert told in capsys.readouterr().out


def test_ctrl_c_keeps_what_has_arrived_and_says_so(program, monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "fetch", interrupt)
    assert program.main(["tiny"]) == 130
    assert "run again" in capsys.readouterr().err


def test_the_program_says_which_default_checkpoint_is_used(
    program, make_server, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HF_ENDPOINT", make_server().url)
    v1 = tmp_path / program.V1_FOLDER
    v1.mkdir(parents=True)
    (v1 / "model.ckpt").touch()
    files = (RemoteFile("x.safetensors", "model.safetensors", DIGEST),)
    monkeypatch.setitem(MODELS, "v1", Model("v1", 0.1, "me/v1", program.V1_FOLDER, files))
    assert program.main(["v1"]) == 0
    shown = capsys.readouterr().out
    assert "model.ckpt is there too and stays the default" in shown
    assert "Licence" in shown


def test_the_table_holds_well_formed_entries_and_the_default_places():
    from ldm.pipelines.models import V1_CHECKPOINTS
    from ldm.safety.weights import LOCAL_FOLDER, WEIGHT_NAMES

    for model in MODELS.values():
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", model.repository)
        for file in model.files:
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert file.size > 0
        assert sum(file.size for file in model.files) / 1e9 == pytest.approx(
            model.gigabytes, abs=0.01
        )
    unknown = [f.path for m in MODELS.values() for f in m.files if f.sha256 is None]
    assert unknown == ["config.json"]
    places = [f"{m.folder}/{f.name}" for m in MODELS.values() for f in m.files]
    assert len(set(places)) == len(places)
    assert set(V1_CHECKPOINTS) <= set(places)
    checker = MODELS["safety-checker"]
    assert Path(__file__).parents[2] / checker.folder == LOCAL_FOLDER
    assert checker.files[-1].name in WEIGHT_NAMES
    # The web UIs' short hash of v1-5-pruned-emaonly.safetensors.
    assert MODELS["sd-v1-5"].files[0].sha256.startswith("6ce0161689")


def test_list_and_help_need_neither_torch_nor_a_network():
    check = (
        "import runpy, socket, sys\n"
        "def refuse(*args): raise AssertionError(args)\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        f"sys.argv = [{str(PROGRAM)!r}, sys.argv[1]]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    for flag, expected in (("--list", "safety-checker"), ("--help", "HF_TOKEN")):
        done = subprocess.run(
            [sys.executable, "-c", check, flag], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout

"""The pages' programs: what can be told is told at once, in one line; Ctrl-C ends them well."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from running import ROOT, run_program, start_program

from ldm.errors import UserError
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.swap import SwapSettings
from optimizedSD.web import server
from optimizedSD.web.page import IMG2IMG, INPAINT, TXT2IMG, ServerSettings

PROGRAMS = [f"optimizedSD/{name}_gradio.py" for name in ("txt2img", "img2img", "inpaint")]
programs = pytest.mark.parametrize("program", PROGRAMS)


@pytest.fixture
def taken():
    """A port that someone else serves."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


def test_a_page_fixes_the_settings_that_its_schema_has_and_no_others():
    flags = ServerSettings(wildcards="lists", glossary="words.tsv")
    assert server.fixed_settings(Txt2ImgSettings, flags)["wildcards"] == "lists"
    fixed = server.fixed_settings(SwapSettings, flags)
    assert SwapSettings(**fixed).glossary == "words.tsv"
    assert "wildcards" not in fixed  # an edit's prompts are as they are typed


@programs
def test_help_needs_neither_torch_nor_gradio(program):
    code = (
        "import json, runpy, sys\n"
        f"sys.argv = [{str(ROOT / program)!r}, '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert "--port" in done.stdout
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert loaded.isdisjoint({"torch", "gradio", "numpy", "PIL", "omegaconf"})


@programs
def test_a_port_that_is_taken_is_one_line_before_any_model_is_loaded(program, taken, tmp_path):
    code, out, err = run_program(program, "--port", taken, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"--port {taken} of --host 127.0.0.1 cannot be served (Address already in use)" in err


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--port", "0"], "--port 0 was given; expected a whole number from 1 to 65535"),
        (["--prot", "80"], "did you mean --port?"),
        (["--prompt", "a cat"], "it is a flag of scripts/txt2img.py"),
        (["--host", "no.such.host.invalid"], "cannot be served"),
        (["--ckpt", "missing.ckpt", "--port", "48123"], "there is no file missing.ckpt"),
    ],
)
def test_a_mistaken_command_line_is_one_line(flags, told, tmp_path):
    if "missing.ckpt" in flags:
        pytest.importorskip("gradio")
    code, _, err = run_program(PROGRAMS[0], *flags, cwd=tmp_path)
    assert code == 2
    assert err.count("\n") == 1
    assert told in err


def test_without_gradio_one_line_says_how_to_get_it(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gradio" else find(name)
    )
    assert server.run_page(TXT2IMG, "", []) == 2
    assert 'run: pip install "gradio' in capsys.readouterr().err


def served_settings(page, monkeypatch, *argv):
    """Return the settings that a page's runs would have from a command line."""
    seen = []

    def note(page, shared, log, console):
        seen.append(shared)
        raise UserError("that is all")

    monkeypatch.setattr(server, "check_gradio", lambda: None)
    monkeypatch.setattr(server, "check_address", lambda host, port: None)
    monkeypatch.setattr(server, "_load_worker", note)
    assert server.run_page(page, "", list(argv)) == 2
    return page.schema(**seen[0])


def test_what_the_command_line_gives_is_in_every_run(monkeypatch):
    given = "--turbo --unet_bs 3 --vram_budget 1.5 --device cpu --precision full --outdir o"
    settings = served_settings(IMG2IMG, monkeypatch, *given.split())
    assert (settings.turbo, settings.unet_bs, settings.vram_budget) == (True, 3, 1.5)
    assert (settings.device, settings.precision, settings.outdir) == ("cpu", "full", "o")


@pytest.mark.parametrize(
    ("page", "folder"),
    [(TXT2IMG, "txt2img-samples"), (IMG2IMG, "img2img-samples"), (INPAINT, "inpaint-samples")],
)
def test_pictures_go_where_the_programs_put_them(page, folder, monkeypatch):
    assert served_settings(page, monkeypatch).outdir == f"outputs/{folder}"


def test_the_inpainting_page_has_the_forks_names_for_the_model_too(monkeypatch):
    argv = ["--config_path", "a.yaml", "--ckpt_path=b.ckpt"]
    settings = served_settings(INPAINT, monkeypatch, *argv)
    assert (settings.config, settings.ckpt) == ("a.yaml", "b.ckpt")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--allowed_hosts http://a.example", "expected host names or addresses without a scheme"),
        ("--max_side 0", "expected a whole number from 1 to 65536"),
        ("--max_waiting 31", "expected a whole number from 0 to 30"),
        ("--max_upload 0", "expected a whole number from 1 to 1024"),
        ("--max_seconds nan", "expected a number, 1.0 or more"),
        ("--max_prompt -1", "expected a whole number from 1"),
    ],
)
def test_a_limit_that_cannot_be_is_one_line(flags, told, capsys):
    assert server.run_page(TXT2IMG, "", flags.split()) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("ended", "left"), [(True, []), (False, [0])])
def test_a_step_that_goes_on_does_not_hold_the_end_up(ended, left, monkeypatch, tmp_path, capsys):
    """Python would crash if it took itself apart beside a thread that computes."""

    class Running:
        share_url, local_url, closed = None, "http://127.0.0.1:1/", []

        def close(self, patience=0.0, verbose=True):
            self.closed.append(patience)
            return ended

    def stop():
        raise KeyboardInterrupt

    codes = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(server, "check_gradio", lambda: None)
    monkeypatch.setattr(server, "check_address", lambda host, port: None)
    monkeypatch.setattr(server, "_load_worker", lambda *_: (Running(), ""))
    monkeypatch.setattr(server, "launch", lambda *_: Running())
    monkeypatch.setattr(server.threading.Event, "wait", lambda _: stop())
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    monkeypatch.setattr(server.os, "_exit", codes.append)
    assert server.run_page(TXT2IMG, "", []) == 0
    assert codes == left
    assert "Text to image: http://127.0.0.1:1/" in capsys.readouterr().out


def test_pages_are_for_this_machine_alone_unless_asked_otherwise():
    for page in (TXT2IMG, IMG2IMG, INPAINT):
        assert (page.server().host, page.server().share) == ("127.0.0.1", False)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are not sent like this there")
def test_a_page_is_served_until_ctrl_c_and_leaves_no_upload(tiny_ckpt, tmp_path):
    pytest.importorskip("gradio")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    (tmp_path / "tmp").mkdir()
    flags = ("--ckpt", tiny_ckpt, "--device", "cpu", "--port", port)
    process = start_program(PROGRAMS[0], *flags, cwd=tmp_path, TMPDIR=str(tmp_path / "tmp"))
    try:
        said = iter(process.stdout.readline, "")
        assert any(f"http://127.0.0.1:{port}/ (Ctrl-C ends it)" in line for line in said)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            assert "Text to image" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert not list((tmp_path / "tmp").glob("pages-*"))

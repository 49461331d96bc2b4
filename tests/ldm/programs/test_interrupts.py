"""Ctrl-C at any moment ends a program without a traceback."""

from __future__ import annotations

import ast
import io
import os
import signal
import subprocess
import sys
import threading

import pytest
from running import ROOT, load_program

from ldm.programs.console import Console, exit_codes
from ldm.programs.interrupts import INTERRUPTED, Interrupts

PROGRAMS = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "main.py", *ROOT.glob("scripts/**/*.py"), *ROOT.glob("optimizedSD/*.py")]
    if "(main())\n" in path.read_text(encoding="utf-8")
)
IMPORTED_BEFORE = ("os", "signal", "sys")
FIRST_LINES = (
    "if __name__ == '__main__' and signal.getsignal(signal.SIGINT) is signal.default_int_handler:\n"
    f"    signal.signal(signal.SIGINT, lambda *_: os._exit({INTERRUPTED}))"
)
# Sends SIGINT to itself when a module is about to be imported.
INTERRUPTED_AT = """
import os, runpy, signal, sys
moment, sys.argv = sys.argv[1], sys.argv[2:]
class Press:
    def find_spec(self, name, *_):
        if name == moment:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Press())
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TRAIN = ("main.py", "--base", str(ROOT / "configs/demo/autoencoder_kl_f4.yaml"), "--train")
DRAW = ("scripts/txt2img.py", "--ddim_steps", "1")


def interrupted(moment, path, *arguments, cwd, ignored=False):
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, moment, str(ROOT / path), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignored else None,
    )


@pytest.mark.parametrize("path", PROGRAMS)
def test_ctrl_c_while_a_program_imports_its_parts_is_silent(path, tmp_path):
    done = interrupted("ldm.programs.console", path, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("moment", ["ldm", "ldm.errors", "argparse"])
@pytest.mark.parametrize(
    "path", ["main.py", "scripts/evaluate.py", "optimizedSD/txt2img_gradio.py"]
)
def test_it_is_silent_at_other_moments(path, moment, tmp_path):
    done = interrupted(moment, path, "--help", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("command", "moment"),
    [
        (DRAW, "omegaconf"),
        (DRAW, "numpy.linalg"),
        (DRAW, "torch.nn"),
        (TRAIN, "numpy"),
        (TRAIN, "pytorch_lightning"),
    ],
)
def test_it_is_one_line_while_libraries_are_imported(command, moment, tmp_path):
    done = interrupted(moment, *command, cwd=tmp_path)
    assert done.returncode == 130
    assert ": stopped: " in done.stderr and done.stderr.count("\n") == 1


def test_a_program_that_ignores_it_from_its_start_goes_on_ignoring_it(tmp_path):
    done = interrupted("ldm.programs.console", DRAW[0], "--help", cwd=tmp_path, ignored=True)
    assert done.returncode == 0 and done.stdout.startswith("usage: txt2img")


@pytest.mark.parametrize("path", PROGRAMS)
def test_every_program_begins_with_the_same_lines_before_anything_slow(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    first = [node for node in tree.body if not isinstance(node, ast.Expr)]
    if isinstance(first[0], ast.ImportFrom):
        assert first.pop(0).module == "__future__"
    assert [ast.unparse(node) for node in first[:3]] == [f"import {n}" for n in IMPORTED_BEFORE]
    assert ast.unparse(first[3]) == FIRST_LINES


def test_whoever_imports_a_program_or_runs_one_in_process_keeps_the_handler():
    before = signal.getsignal(signal.SIGINT)
    load_program("scripts/txt2img.py")
    assert signal.getsignal(signal.SIGINT) is before
    with exit_codes(Console("draw", None, None)):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_that_follows_ctrl_c_counts_as_ctrl_c():
    err = io.StringIO()
    with exit_codes(Console("draw", None, err), lambda: "nothing was written") as ending:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise RecursionError("numpy was not ready") from None
    assert ending.code == 130 and err.getvalue() == "draw: stopped: nothing was written\n"


@pytest.mark.parametrize(
    "handler", [lambda *_: None, signal.default_int_handler], ids=["of the host", "Python's"]
)
def test_an_interrupted_block_gives_the_handler_back(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.came and signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_where_it_is_ignored_it_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        assert not interrupts.came and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_program_runs_in_a_thread_too():
    ends = []

    def run():
        with exit_codes(Console("draw", None, None)) as ending:
            ending.code = 7
        ends.append(ending.code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ends == [7]

"""How a program with a settings class begins, and how a script ends."""

from __future__ import annotations

import gc
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest
from running import ROOT

from ldm.errors import UserError
from ldm.images.opening import most_pixels
from ldm.programs.start import beginning, run_settings_program
from ldm.settings.option import Settings, max_pixels_option, option


@dataclass(frozen=True, kw_only=True)
class Baking(Settings):
    program: ClassVar[str] = "bake"

    minutes: int = option(30, "how long", minimum=1)
    degrees: int = option(200, "how hot", minimum=1)

    def validate(self) -> None:
        super().validate()
        if self.minutes * self.degrees > 10000:
            raise UserError("it burns; expected less of both; change one")


def bake(act, *argv) -> int:
    return run_settings_program(Baking, "Bake.", act, argv, left="the oven is hot")


def test_the_work_gets_the_settings_and_what_it_says_is_shown(capsys):
    def act(console, settings):
        console.say(f"{settings.minutes} minutes at {settings.degrees}")

    assert bake(act, "--minutes", "5") == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("5 minutes at 200\n", "")


@dataclass(frozen=True, kw_only=True)
class Looking(Settings):
    max_pixels: int = max_pixels_option()


def test_pictures_may_be_as_large_as_the_command_line_says(monkeypatch):
    monkeypatch.setenv("LDM_MAX_PIXELS", "7")  # to be restored
    seen = []
    look = partial(run_settings_program, Looking, "Look.", lambda *_: seen.append(most_pixels()))
    assert [look([]), look(["--max_pixels", "99"])] == [0, 0]
    assert seen == [7, 99]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("--minutes", "0"), "bake: error: --minutes 0 was given; expected a whole number, 1 or"),
        (("--minutes", "99"), "bake: error: it burns"),
        (("--hours", "1"), "bake: error: unknown argument '--hours'"),
    ],
)
def test_no_work_is_begun_with_settings_that_do_not_fit(argv, line, capsys):
    begun = []
    assert bake(lambda *given: begun.append(given), *argv) == 2
    assert not begun and capsys.readouterr().err.startswith(line)


def test_an_interruption_says_what_is_left(capsys):
    def act(console, settings):
        raise KeyboardInterrupt

    assert bake(act) == 130
    assert capsys.readouterr().err == "bake: stopped: the oven is hot\n"


SCRIPT = """
import atexit, os, sys, threading
from ldm.programs.start import leave

class Slow:
    def __del__(self):
        print("taken apart", flush=True)

def main():
    return 3

kept = Slow()
atexit.register(print, "registered")
print("written", end=" ")
{more}
leave(main())
"""


def ended(tmp_path, more="", *before):
    """Run a script that leaves; return its exit code and what it wrote."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(more=more), encoding="utf-8")
    command = [sys.executable, *before, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_script_leaves_at_once_with_its_code_and_what_it_wrote(tmp_path):
    assert ended(tmp_path) == (3, ["written registered"])


@pytest.mark.parametrize(
    "more",
    [
        "threading.Timer(0.1, print, ['the thread is done']).start()",
        "sys.setprofile(eval('lambda *_: None', {}))",
        "sys.settrace(eval('lambda *_: None', {}))",
    ],
)
def test_it_ends_as_always_where_something_waits_for_that(tmp_path, more):
    code, lines = ended(tmp_path, more)
    assert code == 3 and lines[-1] == "taken apart"
    assert ("written the thread is done" in lines) is ("Timer" in more)


def test_what_runs_a_script_goes_on_after_it(tmp_path):
    run = (
        "import runpy,sys\ntry: runpy.run_path(sys.argv[1])\nexcept SystemExit as e: print(e.code)"
    )
    assert "written 3" in ended(tmp_path, "", "-c", run)[1]


FRESH = """
import gc, sys
from ldm.programs.start import beginning
sys.modules.pop("torch", None)
with beginning():
    assert not gc.isenabled()
assert gc.isenabled() and gc.get_freeze_count() > 1000
gc.unfreeze()
sys.modules["torch"] = gc
with beginning():
    assert gc.isenabled()
assert gc.get_freeze_count() == 0
gc.disable()
del sys.modules["torch"]
with beginning():
    pass
assert not gc.isenabled()  # as the program that runs us has it
"""


def test_garbage_is_not_looked_for_while_torch_is_imported():
    subprocess.run([sys.executable, "-c", FRESH], check=True, cwd=ROOT)


def test_a_process_that_has_torch_collects_as_before():
    import torch  # noqa: F401 - that it is there is what counts

    before = gc.isenabled(), gc.get_freeze_count()
    with beginning():
        assert gc.isenabled() is before[0]
    assert (gc.isenabled(), gc.get_freeze_count()) == before

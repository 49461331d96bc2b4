"""What README.md and docs/ tell people to type works in a fresh clone, or says what it needs.

A block of commands that needs more than the clone has says so in a comment before them, with the
word "needs". Those commands are read by their programs; all others come as far as the first step
of drawing: settings checked, model chosen, every file that they name found and opened.
"""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from running import load_program

from ldm.images.io import save_picture
from ldm.pipelines import models
from ldm.programs.drawing import DrawingProgram
from ldm.programs.sweeping import SweepProgram
from ldm.settings.command_line import OptionParser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"]
GENERATED = re.compile(r"<!-- help: .*?<!-- /help -->", re.DOTALL)
COMMAND = re.compile(r"\bpython (?!-c)(?:[^&|]|(?<=\w)\|(?=\w))+")
FIRST_PICTURE = "outputs/txt2img-samples/samples/00000.png"  # of the first command
FILE = re.compile(r"[\w./-]+\.(?:png|jpe?g|txt|yaml|toml|tsv|csv)")
WRITTEN = ("--out", "--outdir", "--save", "--csv", "--folder")  # before what a command makes


class Reached(BaseException):
    """Raised where a command has come as far as it is to go."""


def commands(text: str) -> list[tuple[str, bool]]:
    """Return (command, needs more than the clone) of every `python PROGRAM ...` of a page."""
    found, language, needs = [], None, False
    for line in GENERATED.sub("", text).replace("\\\n", " ").splitlines():
        if fence := re.fullmatch(r" *```(\w*)", line):
            language = (fence[1] or "bash") if language is None else None
            needs = False
        elif language == "bash":
            needs = needs or (line.lstrip().startswith("#") and "needs" in line)
            if not line.lstrip().startswith("#"):
                found += [(each.strip(), needs) for each in COMMAND.findall(line)]
    return found


def program_and_flags(command: str) -> tuple[str, list[str]]:
    """Return the program's path or module, and its arguments."""
    words = shlex.split(command, comments=True)
    return (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])


CALLS = [
    pytest.param(*program_and_flags(command), needs, id=f"{page.stem}: {command[7:90]}")
    for page in PAGES
    for command, needs in dict.fromkeys(commands(page.read_text(encoding="utf-8")))
    if "pytest" not in command
]


@pytest.fixture
def reach(monkeypatch, tmp_path):
    """Run a program until its settings are complete, or if it needs more, until they are read."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(models, "V1_CHECKPOINTS", ())  # as in a fresh clone
    monkeypatch.setattr(models, "V1_INPAINTING_CHECKPOINT", "none")

    picture = tmp_path / "first.png"
    text = "a cat\nSteps: 5, Sampler: DDIM, CFG scale: 3, Seed: 3, Size: 64x64"
    save_picture(np.zeros((64, 64, 3), np.uint8), picture, metadata=text)

    def until(program: str, flags: list[str], needs: bool) -> None:
        _stop_there(monkeypatch, needs)
        module = program_of(program)
        with pytest.raises((Reached, SystemExit)):  # the latter by --help
            module.main([str(picture) if word == FIRST_PICTURE else word for word in flags])

    return until


def program_of(program: str) -> ModuleType:
    """Import a program by its path, or by its module's name."""
    if not program.endswith(".py"):
        return importlib.import_module(f"{program}.__main__")
    if program.startswith("benchmarks/"):  # which import each other
        return importlib.import_module(program.removesuffix(".py").replace("/", "."))
    return load_program(program)


def _stop_there(monkeypatch, needs: bool) -> None:
    read, parse = OptionParser.read, argparse.ArgumentParser.parse_args
    main, begun = DrawingProgram.main, []

    def begin(self, argv=None):
        begun.append(self)
        return main(self, argv)

    def read_and_stop(self, argv=None):
        given = read(self, argv)
        if needs or not begun:  # only a program that draws is followed further
            raise Reached
        return given

    def parse_and_stop(self, *args, **kwargs):
        parse(self, *args, **kwargs)
        raise Reached

    def stop(self):
        raise Reached

    monkeypatch.setattr(DrawingProgram, "main", begin)
    monkeypatch.setattr(OptionParser, "read", read_and_stop)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    for program in (DrawingProgram, SweepProgram):
        monkeypatch.setattr(program, "pictures", stop)


def test_most_commands_need_nothing_and_every_page_has_its_own():
    needs = [call.values[2] for call in CALLS]
    assert len(CALLS) > 60 and needs.count(False) > 40


@pytest.mark.parametrize(("program", "flags", "needs"), CALLS)
def test_a_command_does_what_its_page_says_up_to_the_first_step(program, flags, needs, reach):
    if not needs:
        made = {after for before, after in zip(flags, flags[1:], strict=False) if before in WRITTEN}
        named = {path for word in flags if word not in made for path in FILE.findall(word)}
        missing = [each for each in named - {FIRST_PICTURE} if not (ROOT / each).is_file()]
        assert not missing, "no such file in a fresh clone, and nothing says that it is needed"
    reach(program, flags, needs)


def test_a_command_with_a_missing_file_or_a_wrong_flag_is_noticed(reach):
    for flags in (["--init-img", "gone.png"], ["--steep", "3"]):
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
            reach("scripts/img2img.py", flags, needs=False)


def test_the_examples_are_small_and_are_what_their_script_draws(tmp_path):
    make = load_program("assets/examples/make.py")
    assert make.main(tmp_path) == 0
    shipped = {p.name: p for p in (ROOT / "assets/examples").rglob("*") if p.suffix != ".py"}
    made = {p.name: p for p in tmp_path.rglob("*")}
    assert shipped.keys() - {"__pycache__"} == made.keys()
    assert sum(p.stat().st_size for p in shipped.values() if p.is_file()) < 200_000
    from PIL import Image

    for name, path in made.items():
        if path.suffix == ".png":
            theirs = np.asarray(Image.open(shipped[name]).convert("RGB"), int)
            assert np.abs(np.asarray(Image.open(path).convert("RGB"), int) - theirs).max() <= 8
        elif path.is_file():
            assert path.read_bytes() == shipped[name].read_bytes()

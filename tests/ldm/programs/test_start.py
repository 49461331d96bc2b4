"""How a program with a settings class begins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest

from ldm.errors import UserError
from ldm.images.opening import most_pixels
from ldm.programs.start import run_settings_program
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

"""What files and visitors say is shown short and legible, wherever it is shown."""

from __future__ import annotations

import io
import logging
import pickle
import random
import subprocess
import sys
import unicodedata

import pytest

from ldm.budgets import MESSAGE, QUOTED
from ldm.data.skipping import BadItem
from ldm.errors import UserError, in_words
from ldm.images.metadata import format_parameters, parse_parameters
from ldm.legible import escaped, legible, one_line, quoted
from ldm.pipelines.progress import Notice
from ldm.programs.console import Console, ConsoleLog
from ldm.programs.reasons import reason
from ldm.training.program import console_log

ACTING = {
    "terminal colours": ("\x1b[31m", r"\x1b[31m"),
    "a new title": ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
    "a link": ("\x1b]8;;http://x\x1b\\", r"\x1b]8;;http://x\x1b" + "\\"),
    "C1 controls": ("\x9b2J\x85", r"\x9b2J\x85"),
    "NUL and DEL": ("\0\x7f", r"\x00\x7f"),
    "a carriage return": ("a\rb", r"a\x0db"),
    "a backspace": ("a\bb", r"a\x08b"),
    "turned text": ("\u202egnp.exe", r"\u202egnp.exe"),
    "isolated text": ("\u2066a\u2069", r"\u2066a\u2069"),
    "marks of direction": ("\u200e\u200f\u061c", r"\u200e\u200f\u061c"),
    "zero width": ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
    "joiners between ASCII": ("pay\u200dpal", r"pay\u200dpal"),
    "joiners in a row": ("é\u200d\u200d\u200dé", r"é\u200d\u200d\u200dé"),
    "separators": ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
    "lone surrogates": ("\ud800\udcff", r"\ud800\udcff"),
    "tags": ("\U000e0041", r"\U000e0041"),
    "fillers": ("\u3164\uffa0\u115f", r"\u3164\uffa0\u115f"),
    "a soft hyphen": ("a\u00adb", r"a\xadb"),
}
STAYING = (
    *("a cat", "caf\u00e9", "富士山　猫", "👨\u200d👩\u200d👧 🇯🇵 ❤\ufe0f", "می\u200cخواهم", "नमस्ते"),
    *("C:\\new\\x1b\\file.ckpt", "/home/ä b/'q'.png", "a\tb\nc", "\ue000", "葛\U000e0100城"),
)


@pytest.mark.parametrize("kind", ACTING)
def test_characters_that_act_are_written_as_escapes(kind: str) -> None:
    text, shown = ACTING[kind]
    assert legible(text) == escaped(text) == str(UserError(text)) == str(BadItem(text)) == shown
    assert quoted(text) == f"'{shown}'"


@pytest.mark.parametrize("text", STAYING)
def test_what_is_seen_stays_in_any_script(text: str) -> None:
    assert legible(text) == str(UserError(text)) == text


def test_a_legible_text_stays_as_it_is_and_no_longer_than_allowed() -> None:
    rng = random.Random(3)
    letters = [chr(rng.randrange(0x110000)) for _ in range(500)] + list("ab\x1b\u202e\u200d\n\t 猫")
    for _ in range(500):
        text = "".join(rng.choices(letters, k=rng.randrange(400)))
        limit = rng.choice([60, 100, MESSAGE])
        shown = legible(text, limit)
        assert len(shown) <= limit and legible(shown, limit) == shown
        kinds = {unicodedata.category(each) for each in shown if each not in "\n\t\u200c\u200d"}
        assert not kinds & {"Cc", "Cs", "Zl", "Zp"}


def test_a_long_text_keeps_both_ends_and_tells_its_length() -> None:
    text = "begin" + "x" * 20_000_000 + "end"
    for shown, most in ((str(UserError(text)), MESSAGE), (quoted(text), QUOTED + 2)):
        assert len(shown) == most
        assert "begin" in shown and "end" in shown and "20,000,008 characters" in shown


def test_quoted_values_of_every_kind_are_short_and_in_one_line() -> None:
    circle: list = []
    circle.append(circle)
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (10**5000, circle, deep, {"k" * 9999: 1}, "a\nb\tc", b"\x1b" * 999, None, 1.5):
        shown = quoted(value)
        assert len(shown) <= QUOTED + 2 and "\n" not in shown and "\t" not in shown
    assert quoted(7) == "7" and quoted("7") == "'7'" and quoted("a\nb") == r"'a\nb'"


def test_an_error_is_the_same_on_the_other_side_of_a_process() -> None:
    error = UserError("\x1b" * 5000)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


HARM = "x\x1b[2J\0\u202e" + "y" * 10_000 + "\r\nforged: line"


@pytest.fixture
def console() -> Console:
    return Console("p", io.StringIO(), io.StringIO())


def shown_by(console: Console) -> str:
    return console.out.getvalue() + console.err.getvalue()


@pytest.mark.parametrize("show", ["say", "warn", "fail", "log", "error"])
def test_whatever_a_console_shows_is_legible(console: Console, show: str) -> None:
    if show == "log":
        with ConsoleLog(console):
            logging.getLogger("ldm.x").warning("bad: %s", HARM)
    elif show == "error":
        console.fail(reason(UserError(HARM), "p"))
    else:
        getattr(console, show)(HARM)
    text = shown_by(console)
    assert not {*text} & {"\x1b", "\0", "\u202e", "\r"}
    assert r"\x1b[2J" in text and "10," in text and max(map(len, text.split("\n"))) < MESSAGE + 20
    if show != "say":  # which shows tables; a file's name cannot begin a line of its own elsewhere
        assert text.count("\n") == 1


def test_what_training_logs_is_legible(capsys) -> None:
    with console_log():
        logging.getLogger("ldm.training").warning("bad: %s", HARM)
    text = capsys.readouterr().out
    assert not {*text} & {"\x1b", "\0", "\u202e", "\r"} and len(text) < 2 * MESSAGE + 100


def test_what_a_page_tells_is_legible() -> None:
    assert Notice("x\x1b[2J\u202e").text == r"x\x1b[2J\u202e"


def test_used_up_memory_is_one_line() -> None:
    assert "memory is used up" in reason(MemoryError(), "p")


def test_errors_of_libraries_are_legible_in_words() -> None:
    assert in_words(KeyError("\x1b[2J" * 999)).count("\x1b") == 0
    assert len(in_words(ValueError("x" * 9999))) < 300
    assert one_line("a\r\n  b \n\n\x1b c") == r"a b \x1b c"


def test_what_is_written_into_pictures_is_not_changed() -> None:
    prompt = "a\x1b[31m \u202e cat \u200d" + "x" * 9999
    text = format_parameters(prompt, "", {"Steps": 1, "Seed": 2, "Model": "m\x07"})
    assert parse_parameters(text) == (prompt, "", {"Steps": "1", "Seed": "2", "Model": "m\x07"})


def test_a_program_shows_a_hostile_name_as_text(tmp_path) -> None:
    program = (
        "import sys; from ldm.programs.console import Console, exit_codes\n"
        "from ldm.errors import UserError\n"
        "with exit_codes(Console('p', sys.stdout, sys.stderr)) as ending:\n"
        "    raise UserError('no \\x1b[31m\\0\\udcff ' + 'k' * 20_000_000 + '; give another')\n"
        "sys.exit(ending.code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == 2 and len(done.stderr) < MESSAGE + 50
    assert done.stderr.startswith(rb"p: error: no \x1b[31m\x00\udcff kkk")
    assert done.stderr.rstrip().endswith(b"; give another")

"""Any text gets one clear answer that LINE accepts, and touches nothing outside its folder."""

from __future__ import annotations

import random
import re

import pytest
from bot_parts import Stage
from fake_line import SECRET, TOKEN
from odd_texts import PIECES

from apps.line_bot.jobs import Task
from apps.line_bot.simulate import Person, StandIn
from apps.line_bot.texts import TABLE

LONGEST = 5000  # UTF-16 units of a message that LINE sends


@pytest.fixture
def stage(tmp_path):
    with StandIn(secret=SECRET, access_token=TOKEN, users=[Person("Robin", "ja")]) as line:
        line.switches.set(token_lifetime=1e12, quota=None)
        made = Stage(tmp_path / "data", line.address, daily_pictures=10**6, daily_total=10**9)
        line.clock = line.ledger.clock = made.clock
        made.line = line
        yield made
        made.close()


def answers(stage, text: str) -> list[dict]:
    """Return the messages that answer a text; they came by one call."""
    line, before = stage.line, len(stage.line.messages_of(stage.line.users[0]))
    stage.clock.now += 1
    calls = len(line.calls)
    assert stage.hear(line.text_event(line.users[0], text)) == 200
    stage.work()
    replies = [each.status for each in list(line.calls)[calls:] if each.path.endswith("/reply")]
    assert replies == [200], text
    return [each.content for each in line.messages_of(line.users[0])[before:]]


def odd_texts(number: int, seed: int = 15):
    draw = random.Random(seed)
    for _ in range(number):
        joint = draw.choice(["", " ", "、", ",", "\n", "　"])
        pieces = [draw.choice(PIECES) for _ in range(draw.randrange(1, 9))]
        if draw.random() < 0.3:
            pieces.append("".join(chr(draw.randrange(1, 0x2FFFF)) for _ in range(8)))
        text = joint.join(pieces)
        yield "".join(c for c in text if not 0xD800 <= ord(c) < 0xE000 or draw.random() < 0.5)


def test_any_text_gets_one_answer_that_line_takes_and_no_file_elsewhere(stage, tmp_path):
    filled = (re.sub(r"\\\{\w+\\\}", ".*", re.escape(s)) for row in TABLE.values() for s in row)
    sentence = re.compile("|".join(filled), re.DOTALL)
    for text in odd_texts(100):
        found = answers(stage, text)
        kinds = {each["type"] for each in found}
        assert (kinds == {"image"} and 1 <= len(found) <= 4) or (
            kinds == {"text"} and len(found) == 1
        ), text
        if kinds == {"text"}:
            said = found[0]["text"]
            assert sentence.fullmatch(said) or "Steps: " in said or "描いて返します" in said, said
            assert "\0" not in said and "Traceback" not in said
    assert {each.name for each in tmp_path.iterdir()} == {"data"}
    names = {each.name for each in (tmp_path / "data").iterdir()}
    assert names <= {"bot.db", "bot.db-wal", "bot.db-shm", "bot.lock", "drawn", "pictures"}
    assert {row["state"] for row in stage.bot.base.rows("SELECT state FROM events")} == {"read"}
    assert not stage.bot.base.rows("SELECT * FROM warnings")


@pytest.mark.parametrize("letter", ["猫", "a", "a ", "🐈", "1", "e\u0301", "<", "\\"])
def test_5000_letters_get_one_sentence(stage, letter):
    units = len(letter.encode("utf-16-le")) // 2
    (found,) = answers(stage, letter * (LONGEST // units))
    assert found["type"] == "text" and "1000" in found["text"]


@pytest.mark.parametrize("text", ["\0", "\u202e", "\u200d\ufeff", " \n　", "🏳\ufe0f"[1:], "、,。"])
def test_what_shows_nothing_is_asked_for_words(stage, text):
    (found,) = answers(stage, text)
    assert found["text"] == TABLE["empty"][0]


@pytest.mark.parametrize(
    ("text", "prompt", "seed"),
    [
        ("猫、ｓｅｅｄ　７", "猫", 7),
        ("猫、seed ７", "猫", 7),
        ("{user} %s {0}, seed 1", "{user} %s {0}", 1),
        ("<b>猫</b>、seed 2", "<b>猫</b>", 2),
        ("../../etc/passwd, seed 3", "../../etc/passwd", 3),
        ("a\0b\x1b[31m cat, seed 4", "ab[31m cat", 4),
        ("\u202etac a, seed 5", "tac a", 5),
    ],
)
def test_text_that_looks_like_something_else_is_what_to_draw(stage, text, prompt, seed):
    (found,) = answers(stage, text)
    assert found["type"] == "image"
    task = Task.read(stage.jobs()[0]["task"])
    assert task.prompt.replace(" ", "") == prompt.replace(" ", "") and task.seed == seed


@pytest.mark.parametrize("text", ["猫 --ckpt /etc/passwd", "cat --steps abc", "cat --steps ９９９"])
def test_flags_that_are_none_or_have_no_number_are_named(stage, text):
    (found,) = answers(stage, text)
    assert found["type"] == "text" and any(each in found["text"] for each in ("--ckpt", "steps"))

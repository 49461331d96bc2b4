"""Any text gives one clear answer, and settings by words are read in three languages."""

from __future__ import annotations

import random

import pytest
from odd_texts import PIECES

from apps.line_bot.jobs import Task
from apps.line_bot.refused import Refused
from apps.line_bot.texts import HELP, LANGUAGES, STYLES, TABLE, language_of, say
from apps.line_bot.words import HIGHEST_SEED, Limits, read_button, read_text
from ldm.errors import UserError

REFUSED = Refused.of(None)


def read(text: str):
    return read_text(text, Limits(), REFUSED)


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("a red apple", Task("a red apple")),
        ("猫、4 枚、縦、seed 7", Task("猫", count=4, shape="portrait", seed=7)),
        ("４枚の猫", Task("猫", count=4)),
        ("猫を二枚", Task("猫", count=2)),
        ("4張貓，橫", Task("貓", count=4, shape="landscape")),
        ("貓 直", Task("貓", shape="portrait")),
        ("3 pictures of a cat, square", Task("a cat", count=3, shape="square")),
        ("a cat 2 images", Task("a cat", count=2)),
        ("a cat seed 6421725739674010", Task("a cat", seed=6421725739674010)),
        ("a cat --steps 20 --scale=7.5 --seed 0", Task("a cat", steps=20, scale=7.5, seed=0)),
        ("a cat\nportrait\n4 pictures", Task("a cat", shape="portrait", count=4)),
        ("犬 シード 12", Task("犬", seed=12)),
        # What is said to the bot is nothing to draw.
        ("赤い背景の猫を2枚描いてください", Task("赤い背景の猫", count=2)),
        ("犬の絵をお願いします、3枚", Task("犬の絵", count=3)),
        ("猫です、夜です、描いてほしいです", Task("猫, 夜")),
        ("請幫我畫四張紅色背景的貓", Task("紅色背景的貓", count=4)),
        ("畫一隻貓", Task("一隻貓")),
        ("Please draw me a cat", Task("a cat")),
        ("can you paint 2 pictures of a dog, please?", Task("a dog", count=2)),
        ("畫家在畫畫", Task("畫家在畫畫")),
        ("paint on a wall", Task("paint on a wall")),
        ("draw please", Task("draw")),
        # What may be meant otherwise stays in the prompt.
        ("a portrait of my cat", Task("a portrait of my cat")),
        ("a landscape with trees", Task("a landscape with trees")),
        ("5,000 birds", Task("5,000 birds")),
        ("seven pictures on a wall", Task("seven pictures on a wall")),
        ("a seed in the earth", Task("a seed in the earth")),
        ("cat -- dog", Task("cat -- dog")),
        ("route 66:2 (old)", Task("route 66:2 (old)")),
        ("🐈‍⬛", Task("🐈‍⬛")),
    ],
)
def test_a_text_becomes_a_task(text, task):
    found = read(text)
    assert (found.kind, found.task) == ("draw", task)


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            "cancel",
            ["取消", "キャンセル", "cancel", "Cancel!", " ＣＡＮＣＥＬ ", "停止", "取り消し"],
        ),
        ("help", ["help", "ヘルプ", "說明", "HELP.", "?", "？", "使い方"]),
        ("recipe", ["recipe", "レシピ", "配方", "Recipe"]),
    ],
)
def test_commands_are_known_in_three_languages_and_any_width(kind, texts):
    assert [read(text).kind for text in texts] == [kind] * len(texts)
    assert read(f"{texts[0]} for a cake").kind == "draw"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "empty"),
        ("\0\u202e\u200b", "empty"),
        ("4枚", "empty"),
        ("...", "empty"),
        ("99枚の猫", "range"),
        ("0 pictures of a cat", "range"),
        ("cat --steps 1000", "range"),
        ("cat --steps", "range"),
        ("cat --steps many", "range"),
        ("cat --seed -1", "range"),
        (f"cat --seed {HIGHEST_SEED + 1}", "range"),
        ("cat --scale 1e9", "range"),
        ("cat --format png", "unknown_flag"),
        ("x" * 1001, "too_long"),
        ("a nude man", "refused"),
        ("ＮＵＤＥ", "refused"),
        ("n\u200bude", "refused"),
        ("ヌードの絵", "refused"),
    ],
)
def test_what_cannot_be_done_is_said_in_three_languages(text, key):
    found = read(text)
    assert (found.kind, found.key) == ("clear", key)
    for language in LANGUAGES:
        said = say(found.key, language, **found.filled)
        assert said and "{" not in said and len(said) < 300


def test_words_that_hold_refused_ones_are_not_refused():
    assert not any(REFUSED.finds(text) for text in ("grapes", "Essex", "scrape", "unporn1"))


def test_the_operators_words_are_refused_too(tmp_path):
    (tmp_path / "words.txt").write_text("\ufeffマイク\n\n Bob \n", encoding="utf-8")
    refused = Refused.of(str(tmp_path / "words.txt"))
    assert refused.finds("bob, a man") and refused.finds("ﾏｲｸの絵") and refused.finds("nude")
    assert not refused.finds("Bobby")
    with pytest.raises(UserError, match="cannot be read"):
        Refused.of(str(tmp_path / "nothing"))


def test_any_mixture_of_pieces_gives_one_clear_answer():
    draw = random.Random(1)
    for _ in range(3000):
        joint = draw.choice(["", " ", ", "])
        text = joint.join(draw.choice(PIECES) for _ in range(draw.randrange(12)))
        found = read(text)
        if found.kind == "draw":
            task = found.task
            assert 1 <= task.count <= 4 and len(task.prompt) <= 1000
            assert task.prompt.isprintable() or "\ufe0f" in text or "\u200d" in text
            assert task.prompt.encode() and Task.read(task.written()) == task
            assert task.seed is None or 0 <= task.seed <= HIGHEST_SEED
            assert task.steps is None or 1 <= task.steps <= 100
        elif found.kind == "clear":
            assert 0 < len(say(found.key, "ja", **found.filled)) < 500


def test_5000_letters_of_anything_are_read_in_a_moment():
    import time

    for piece in (
        "猫",
        "4枚、",
        "--seed 1 ",
        "seed ",
        "，" * 3,
        "1",
        " ",
        "--a",
        "\n",
        "a,",
        "4 pictures ",
    ):
        begun = time.perf_counter()
        read((piece * 5000)[:5000])
        assert time.perf_counter() - begun < 0.5, piece


def test_buttons_are_read_strictly():
    job = "0123456789abcdef" * 2
    assert read_button(f"do=again&job={job}") == ("again", job, "")
    assert read_button(f"do=style&job={job}&style=oil") == ("style", job, "oil")
    bad = ("", "do=x", f"do=again&job={job[:-1]}", f"do=again&job=../{job}", "x" * 400)
    bad += ("&".join(["a=1"] * 99)[:290], f"do=style&job={job}&style=../x", "do=again&job=%00")
    assert {read_button(data) for data in bad} == {("", "", "")}


@pytest.mark.parametrize(
    ("text", "told", "language"),
    [
        ("赤いりんご", "", "ja"),
        ("ネコ", "zh-TW", "ja"),
        ("一隻貓", "", "zh"),
        ("一隻貓", "ja", "zh"),
        ("富士山", "ja", "ja"),
        ("富士山", "zh-Hant", "zh"),
        ("広い駅", "en", "ja"),
        ("a cat", "", "en"),
        ("a cat", "ja", "ja"),
        ("고양이", "ko", "en"),
        ("ㄅㄆ", "", "zh"),
        ("🐈", "zh-TW", "zh"),
        ("月亮和星星", "", "zh"),
        ("一隻狗", "ja", "zh"),
    ],
)
def test_the_answer_is_in_the_users_language(text, told, language):
    assert language_of(text, told) == language


def test_everything_is_said_in_all_languages_with_the_same_blanks():
    import re

    for key, row in TABLE.items():
        assert (
            len(row) == 3 and len({frozenset(re.findall(r"{\w+}", text)) for text in row}) == 1
        ), key
    assert set(HELP) == set(LANGUAGES) and set(STYLES) <= set(TABLE)
    assert all(len(say(button, each)) <= 20 for button in STYLES for each in LANGUAGES)


def test_what_is_no_number_is_told_the_operators_own_limits():
    for text in ("cat --steps many", "cat --steps 60"):
        found = read_text(text, Limits(steps=50), REFUSED)
        assert (found.key, found.filled["high"]) == ("range", 50)

"""Prompts as templates: what may be written, what a seed draws of it, and how often."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest

from ldm.budgets import WILDCARD_DEPTH
from ldm.errors import UserError
from ldm.prompts.wildcards import Choice, Named, Options, draw, is_template, parse, read_weight


def lists(**lines):
    """Return lists by name."""
    made = {
        name: Options(tuple(map(parse, texts)), (1.0,) * len(texts))
        for name, texts in lines.items()
    }
    return made.__getitem__


def drawn(text, count=400, **lines):
    """Return what so many seeds draw, with how often."""
    template = parse(text)
    return Counter(draw(template, lists(**lines), seed) for seed in range(count))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a {red|blue} cat", {"a red cat", "a blue cat"}),
        ("a __pets__", {"a cat", "a dog"}),
        ("__pets__s", {"cats", "dogs"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{__pets__|fish}", {"cat", "dog", "fish"}),
        ("a{ very|} big cat", {"a very big cat", "a big cat"}),
        ("{2$$a|b|c}", {", ".join(pair) for pair in permutations("abc", 2)}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{1-2$$+$$a|b}", {"a", "b", "a+b", "b+a"}),
        ("{-2$$+$$a|b|c}", {*"abc", *("+".join(pair) for pair in permutations("abc", 2))}),
        ("{2-$$+$$a|b|c}", {"+".join(p) for n in (2, 3) for p in permutations("abc", n)}),
        ("{0-1$$a}", {"", "a"}),
        ("{9$$+$$a|b}", {"a+b", "b+a"}),  # no more than there are
        ("{2$$__pets__}", {"cat, dog", "dog, cat"}),  # lines of a lone list differ
        ("{2$$+$$0::a|b|c}", {"b+c", "c+b"}),
        ("{1$$a|b}", {"a", "b"}),
        ("{$$|-$$}", {"$$", "-$$"}),  # no number, no count
        ("{}", {""}),
    ],
)
def test_every_way_to_draw_is_drawn_and_no_other(text, expected):
    assert set(drawn(text, pets=["cat", "dog"])) == expected


def test_weights_say_how_often():
    assert drawn("{3::a|b}", 4000)["a"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert drawn("{.5::a|1.5::b|c}", 4000)["a"] / 4000 == pytest.approx(1 / 6, abs=0.03)
    found = drawn("{2$$3::a|b|c}", 4000)
    # As picks one after the other without putting back: 3/5 · 1/2, and 1/5 · 1/4.
    assert found["a, b"] / 4000 == pytest.approx(0.3, abs=0.03)
    assert found["b, c"] / 4000 == pytest.approx(0.05, abs=0.03)
    assert set(drawn("{0::a|b}")) == {"b"}


def test_a_seed_draws_the_same_for_ever():
    # Recorded: whoever changes these changes the prompts of everybody's seeds.
    template = parse("a {red|blue|green} __pets__ with {2$$a|b|c}")
    found = [draw(template, lists(pets=["cat", "dog", "fox"]), seed) for seed in (0, 1, 2**64)]
    assert found == RECORDED
    assert draw(template, lists(pets=["cat"]), 5, "negative") != draw(
        template, lists(pets=["cat"]), 5
    )


RECORDED = ["a blue cat with a, c", "a red fox with c, b", "a green cat with b, c"]


def test_a_place_of_the_template_draws_whatever_the_others_do():
    short = drawn("__a__ {x|y|z}", a=["{1|2} {3|4}"])
    for seed in range(20):
        one = draw(parse("__a__ {x|y|z}"), lists(a=["{1|2} {3|4}"]), seed)
        other = draw(parse("{p|q} {x|y|z}"), lists(), seed)
        assert one.split()[-1] == other.split()[-1]
    assert len(short) > 8  # two places do not draw the same


@pytest.mark.parametrize(
    "text",
    ["a cat", "snake__case", "__init", "a __ b __ c", "a | b", "[a|b:3]", "(a:1.2)", "$5", "____"],
)
def test_ordinary_text_is_no_template_and_stays(text):
    assert not is_template(text)
    assert draw(parse(text), lists(), 1) == text


def test_names_have_folders_patterns_and_spaces():
    assert parse("__a/b_c__ __x*__ __my list__") == (
        *(Named("a/b_c"), " ", Named("x*"), " ", Named("my list")),
    )
    assert parse("___a__") == ("_", Named("a"))
    assert parse("{2::a |b}") == (Choice(Options((("a ",), ("b",)), (2.0, 1.0))),)
    assert read_weight(" 2::x::y") == (2.0, "x::y")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a {b", "not closed"),
        ("a {b} c}", "not there"),
        ("${a=b}", "variable"),
        ("{0::a|0::b}", "weights"),
        ("{3-2$$a|b}", "3 to 2"),
        ("{" * 30 + "}" * 30, str(WILDCARD_DEPTH)),
        ("x" * 9000 + "{", "not closed"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_counts_as_a_template(text, fault):
    assert is_template(text)
    with pytest.raises(UserError, match=fault) as raised:
        parse(text, "line 3")
    assert str(raised.value).startswith("line 3 '") and "\n" not in str(raised.value)


def test_a_prompt_neither_grows_without_end_nor_takes_for_ever():
    def chain(line):
        return lists(**{f"l{k}": [line.replace("?", f"__l{k + 1}__")] for k in range(19)}, l19=[""])

    with pytest.raises(UserError, match="more than [0-9]+ draws"):
        draw(parse("__l0__"), chain("???"), 1)
    with pytest.raises(UserError, match="letters"):
        draw(parse("__l0__"), chain("x" * 9000 + " ?"), 1)

"""Weights of words: the web UI's documented examples, and brackets that nobody closed."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.prompts.emphasis import BREAK, pieces

DOCUMENTED = {
    "normal text": [("normal text", 1.0)],
    "an (important) word": [("an ", 1.0), ("important", 1.1), (" word", 1.0)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1.0)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0),
        ("house", 1.5730000000000004),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641000000000006),
        (".", 1.1),
    ],
}


@pytest.mark.parametrize("text", DOCUMENTED)
def test_the_documented_examples_give_the_documented_weights(text):
    assert [tuple(piece) for piece in pieces(text)] == DOCUMENTED[text]


def test_brackets_without_a_partner_weigh_the_rest_or_are_text():
    assert pieces("a [b c") == [("a ", 1.0), ("b c", 1 / 1.1)]
    assert pieces("a) b] c:2)") == [("a) b] c:2)", 1.0)]
    assert pieces("(a [b) c]") == [("a ", 1.1), ("b", 1.1 * (1 / 1.1)), (" c", 1 / 1.1)]
    assert pieces("") == pieces("()") == [("", 1.0)]


def test_a_break_stands_between_pieces_and_takes_its_white_space_along():
    assert pieces("a BREAK  b, BREAKFAST") == [("a", 1.0), BREAK, ("b, BREAKFAST", 1.0)]
    assert [piece == BREAK for piece in pieces("a BREAK BREAK b")].count(True) == 2


def test_a_break_inside_brackets_is_a_word_as_in_the_web_ui():
    assert ("BREAK", -1.1) in [(p.text, round(p.weight, 9)) for p in pieces("(a BREAK b)")]


def test_weights_that_are_no_numbers_are_refused_in_one_line():
    with pytest.raises(UserError, match="the weight '1.2.3' in a prompt was given"):
        pieces("(cat:1.2.3)")


@pytest.mark.parametrize("sign", ["(", "["])
def test_a_hundred_open_brackets_are_read_and_more_are_refused_in_one_line(sign):
    assert pieces(sign * 100 + "a")[0].text == "a"
    with pytest.raises(UserError, match="opens more than 100 brackets") as refused:
        pieces(sign * 50_000)
    assert "\n" not in str(refused.value)

"""Prompts that change on the way: the web UI's documented examples, and whatever may be typed."""

from __future__ import annotations

import time

import pytest

from ldm.errors import UserError
from ldm.prompts.schedule import schedule

# The examples in the web UI's source, for ten steps.
DOCUMENTED = {
    "test": [(10, "test")],
    "a [b:3]": [(3, "a "), (10, "a b")],
    "a [b: 3]": [(3, "a "), (10, "a b")],
    "a [[[b]]:2]": [(2, "a "), (10, "a [[b]]")],
    "[(a:2):3]": [(3, ""), (10, "(a:2)")],
    "a [b : c : 1] d": [(1, "a b  d"), (10, "a  c  d")],
    "a[b:[c:d:2]:1]e": [(1, "abe"), (2, "ace"), (10, "ade")],
    "a [unbalanced": [(10, "a [unbalanced")],
    "a [b:.5] c": [(5, "a  c"), (10, "a b c")],
    "a [{b|d{:.5] c": [(10, "a [{b|d{:.5] c")],
    "((a][:b:c [d:3]": [(3, "((a][:b:c "), (10, "((a][:b:c d")],
    "a [b:1.5] c": [(10, "a  c")],
}


@pytest.mark.parametrize("prompt", [each for each in DOCUMENTED if "{" not in each])
def test_the_documented_examples_give_the_documented_schedules(prompt):
    assert schedule(prompt, 10) == DOCUMENTED[prompt]


def test_the_wikis_landscape_changes_at_its_four_places():
    prompt = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]"
        "[ in foreground::0.6][ in background:0.25] [shoddy:masterful:0.5]"
    )
    assert schedule(prompt, 100) == [
        (25, "fantasy landscape with a mountain and an oak in foreground shoddy"),
        (50, "fantasy landscape with a lake and an oak in foreground in background shoddy"),
        (60, "fantasy landscape with a lake and an oak in foreground in background masterful"),
        (75, "fantasy landscape with a lake and an oak in background masterful"),
        (100, "fantasy landscape with a lake and a christmas tree in background masterful"),
    ]


def test_alternatives_take_turns_and_may_be_empty():
    assert [text for _, text in schedule("[fe|]male", 4)] == ["female", "male"] * 2
    assert [text for _, text in schedule("[a|(b:1.1)|c]", 4)] == ["a", "(b:1.1)", "c", "a"]
    assert [end for end, _ in schedule("[a|b]", 4)] == [1, 2, 3, 4]


def test_a_change_before_the_first_step_or_after_the_last_is_none():
    assert schedule("[a:b:0]", 8) == schedule("[a:b:-3]", 8) == [(8, "b")]
    assert schedule("[a:b:99]", 8) == schedule("[a:b:1e400]", 8) == [(8, "a")]


@pytest.mark.parametrize(
    "prompt",
    [
        "a | b [c:3]",
        "[c:3] \\",
        "(a|b) [c:3]",
        "[a|b:3]",
        "[(a|b] [c:3]",
        "[(a:b:c):3]",
        "a [b:c:d:3]",
        "[a:b]",
    ],
)
def test_what_is_not_well_formed_is_text(prompt):
    assert schedule(prompt, 10) == [(10, prompt)]


def test_a_well_formed_pair_inside_of_another_counts_alone():
    assert schedule("[x (a] [b:3] y)", 9) == [(3, "[x (a]  y)"), (9, "[x (a] b y)")]
    assert schedule("[a:[b:2]:c:3]", 9) == [(2, "[a::c:3]"), (9, "[a:b:c:3]")]
    assert schedule(r"[\[b\]:2]", 9) == [(2, ""), (9, r"\[b\]")]


@pytest.mark.parametrize("piece", ["(", "[", "[a:", "(a:[b|", "]", "[a|b]", "[a:b:2]", "\\(", "|["])
def test_a_long_prompt_takes_no_longer_for_its_nesting(piece):
    prompt = (piece * 100_000)[:99_999]
    begun = time.process_time()
    try:
        assert schedule(prompt, 3)[-1][0] == 3
    except UserError as error:
        assert "\n" not in str(error)
    assert time.process_time() - begun < 5


def test_pairs_may_be_nested_as_deep_as_a_prompt_is_long():
    closed = "[" * 20_000 + "a" + "]" * 20_000
    assert schedule(f"{closed}[b:1]", 2) == [(1, closed), (2, f"{closed}b")]


def test_texts_that_fill_the_memory_are_refused_in_one_line():
    with pytest.raises(UserError, match="changes in 1000 steps; expected at most"):
        schedule("[a|b]" + "c" * 90_000, 1000)

"""What a plain prompt is told to have been meant as, and what nobody is told of."""

from __future__ import annotations

import pytest

from ldm.prompts.looks import a1111_parts, compel_parts, may_be_a1111

ORDINARY = [
    "a cat (sitting)",
    "a cat [sitting], (red) hat",
    "a clock (at 12:30) and a screen (16:9)",
    "the psalm [John 3:16] :) and :( and (: and [:",
    "a C++ book, a dog -- asleep, a cat--black",
    "SALT AND PEPPER SHAKERS",
    'a sign "OPEN 24 HOURS AND MORE"',
    'a sign "COFFEE BREAK"',
    "a poster that says BREAK",
    "a < b > c, a <b> tag, 3 < 4",
    "f(x) = 2.0, (2.0), version 1.5 (beta) 2",
    "a photo (1920s), 35mm; f/1.8; e.g. (this one).",
    "a path C:\\Users\\cat",
    "tabby cat:0.25 white duck:0.75",
]


@pytest.mark.parametrize("prompt", ORDINARY)
def test_ordinary_text_is_not_taken_for_a_grammar(prompt):
    assert not [*a1111_parts(prompt), *compel_parts(prompt)]


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("a (red:1.3) cat", "(red:1.3)"),
        ("a ((red)) cat", "((red))"),
        ("a [[red]] cat", "[[red]]"),
        ("a [cat:dog:0.5]", "[cat:dog:0.5]"),
        ("a [cat::8] here", "[cat::8]"),
        ("a [hat:.3]", "[hat:.3]"),
        ("a [red|blue] cat", "[red|blue]"),
        (r"saber \(fate\)", r"\("),
        ("a cat <lora:ink:0.8>", "<lora:ink:0.8>"),
        ("a cat AND a dog", "AND"),
        ("a cat, BREAK a dog", "BREAK"),
    ],
)
def test_the_web_uis_grammar_is_seen(prompt, part):
    assert part in list(a1111_parts(prompt)) and may_be_a1111(prompt)


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("a red++ cat", "red++"),
        ("a red-- cat", "red--"),
        ("a (red hat)1.3, cat", ")1.3"),
        ("a (red hat)++ cat", ")++"),
        ('("a", "b").blend(1, 2)', ").blend("),
        ('("a", "b").and()', ").and("),
    ],
)
def test_compels_grammar_is_seen(prompt, part):
    assert part in list(compel_parts(prompt))


def test_plain_prompts_of_one_row_are_not_the_web_uis_own():
    assert not may_be_a1111("a cat on a mat") and may_be_a1111("cat " * 30)

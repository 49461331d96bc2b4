"""Tokens of a prompt are counted as it is drawn: without brackets, weights and tags."""

from __future__ import annotations

import pytest

from apps.studio.counting import count_tokens


class Words:
    """One token for each word."""

    max_length = 77

    def encode(self, text):
        return text.replace(",", " ,").split()


@pytest.mark.parametrize(
    ("prompt", "counted"),
    [
        ("", (0, 75)),
        ("a cat, red", (4, 75)),
        ("a (cat:1.3) [red]", (3, 75)),
        ("a cat <lora:ink:0.8>", (2, 75)),
        ("one two AND three", (2, 75)),
        ("one BREAK two", (2, 75)),
        ("word " * 76, (76, 150)),
        ("word " * 75, (75, 75)),
    ],
)
def test_what_counts_is_what_is_drawn(prompt, counted):
    assert count_tokens(Words(), prompt, "a1111") == counted


def test_brackets_are_words_where_they_mean_nothing():
    assert count_tokens(Words(), "a ( cat", "compvis") == (3, 75)


def test_nothing_is_said_of_unfinished_tags_or_by_other_encoders():
    assert count_tokens(Words(), "a <lora::x>", "a1111") is None
    assert count_tokens(None, "a cat", "a1111") is None
    assert count_tokens(object(), "a cat", "a1111") is None

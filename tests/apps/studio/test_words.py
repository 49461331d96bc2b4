"""The table of words: every language says everything, and the visitor's own is found."""

from __future__ import annotations

import re

import pytest

from apps.studio.words import LANGUAGES, TABLE, count, language_of, say


def test_every_language_says_every_key_with_the_same_values():
    for key, said in TABLE.items():
        assert len(said) == len(LANGUAGES)
        assert all(text.strip() for text in said), key
        values = {frozenset(re.findall(r"\{(\w+)\}", text)) for text in said}
        assert len(values) == 1, key


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("ja", "ja"),
        ("zh-TW,zh;q=0.9,en;q=0.8", "zh"),
        ("fr-FR,fr;q=0.9,en;q=0.5,ja;q=0.7", "ja"),
        ("de", "en"),
        ("en-US,ja", "en"),
        ("", "en"),
        (None, "en"),
        (";q=,,;;q=9e9," * 5000, "en"),
    ],
)
def test_the_first_language_that_is_spoken_is_found(header, language):
    assert language_of(header) == language


def test_values_are_filled_in_and_pictures_counted():
    assert say("ja", "left", s=5) == "残り約 5 秒"
    assert [count("en", n) for n in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]

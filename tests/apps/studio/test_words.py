"""The table of words: every language says everything, with the same values in it."""

from __future__ import annotations

import re

from apps.studio.words import LANGUAGES, TABLE, count, known, say


def test_every_language_says_every_key_with_the_same_values():
    for key, said in TABLE.items():
        assert len(said) == len(LANGUAGES)
        assert all(text.strip() for text in said), key
        values = {frozenset(re.findall(r"\{(\w+)\}", text)) for text in said}
        assert len(values) == 1, key


def test_the_studio_knows_the_other_pages_words_and_the_settings_labels():
    assert {"stopping", "failed", "seed", "prompt"} <= known().keys()


def test_values_are_filled_in_and_pictures_counted():
    assert say("ja", "tokens", used=5, room=75) == "5 / 75 トークン"
    assert [count("en", n) for n in (0, 1, 2)] == ["0 pictures", "1 picture", "2 pictures"]

"""Letters of Japanese and Chinese: kana and Chinese characters, after NFKC."""

from __future__ import annotations

import re
import unicodedata

KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
"""Hiragana and katakana with the long vowel mark, but for the middle dot, as a character class."""
CJK = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
"""Chinese characters, with those that repeat one and stand for a number."""
_LETTER = re.compile(f"[{KANA}{CJK}]")
_ALL_KANA = re.compile(f"[{KANA}]+")


def has_cjk(text: str) -> bool:
    """Return whether a text has a kana or a Chinese character; half-width katakana are kana.

    Example:
        >>> has_cjk("a ﾈｺ"), has_cjk("a cat 🐈 (naïve)")
        (True, False)
    """
    return bool(_LETTER.search(unicodedata.normalize("NFKC", text)))


def is_kana(text: str) -> bool:
    """Return whether a text is kana and nothing else."""
    return bool(_ALL_KANA.fullmatch(text))

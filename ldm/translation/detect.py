"""Tell in which language a text is by its letters: kana and CJK, after NFKC."""

from __future__ import annotations

import re
import unicodedata

from ldm.translation.chinese_letters import writes_chinese

KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
"""Hiragana and katakana with the long vowel mark, but for the middle dot, as a character class."""
CJK = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
"""Chinese characters, with those that repeat one and stand for a number."""
LANGUAGES = {"ja": "Japanese", "zh": "Chinese"}
"""Those that are translated, by their codes."""
_KANA = re.compile(f"[{KANA}]")
_LETTER = re.compile(f"[{KANA}{CJK}]")
_ALL_KANA = re.compile(f"[{KANA}]+")


def has_cjk(text: str) -> bool:
    """Return whether a text has a kana or a Chinese character; half-width katakana are kana.

    Example:
        >>> has_cjk("a ﾈｺ"), has_cjk("a cat 🐈 (naïve)")
        (True, False)
    """
    return bool(_LETTER.search(unicodedata.normalize("NFKC", text)))


def language_of(text: str, shared: str = "ja") -> str | None:
    """Return the code of the language that a text is to be translated from; None for no such.

    Kana are Japanese. Without them, what Chinese alone writes is Chinese.

    Args:
        text: The text.
        shared: The code of what both write.

    Example:
        >>> [language_of(text) for text in ("赤い猫", "紅色的貓", "山", "a cat")]
        ['ja', 'zh', 'ja', None]
    """
    plain = unicodedata.normalize("NFKC", text)
    if not _LETTER.search(plain):
        return None
    if _KANA.search(plain):
        return "ja"
    return "zh" if writes_chinese(plain) else shared


def is_japanese(text: str) -> bool:
    """Return whether a text is taken as Japanese.

    Example:
        >>> is_japanese("a ﾈｺ"), is_japanese("貓"), is_japanese("a cat")
        (True, False, False)
    """
    return language_of(text) == "ja"


def is_kana(text: str) -> bool:
    """Return whether a text is kana and nothing else."""
    return bool(_ALL_KANA.fullmatch(text))

"""Tell in which language a text is by its letters: kana and Chinese characters, after NFKC."""

from __future__ import annotations

import re
import unicodedata

from ldm.translation.letters import KANA, has_cjk

LANGUAGES = {"ja": "Japanese", "zh": "Chinese"}
"""Those that are translated, by their codes."""
_KANA = re.compile(f"[{KANA}]")


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
    if not has_cjk(plain):
        return None
    if _KANA.search(plain):
        return "ja"
    from ldm.translation.chinese_letters import writes_chinese  # no other text needs its tables

    return "zh" if writes_chinese(plain) else shared


def is_japanese(text: str) -> bool:
    """Return whether a text is taken as Japanese.

    Example:
        >>> is_japanese("a ﾈｺ"), is_japanese("貓"), is_japanese("a cat")
        (True, False, False)
    """
    return language_of(text) == "ja"

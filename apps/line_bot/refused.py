"""Words that are refused, in the three languages, and those that the operator adds."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from ldm.errors import UserError

ALWAYS = (
    *("nude", "nudes", "naked", "nsfw", "porn", "porno", "pornography", "hentai", "loli"),
    *("lolita", "shota", "gore", "beheading", "rape"),
    *("全裸", "ヌード", "エロ", "ポルノ", "アダルト", "ロリコン", "強姦", "レイプ", "グロ画像"),
    *("裸體", "裸照", "色情", "情色", "強暴", "斬首"),
)
LARGEST_FILE = 2**20  # bytes


class Refused:
    """Finds words that are refused.

    Latin words count as whole words, so that "Essex" and "grape" stay allowed; scripts without
    spaces are searched anywhere in the text.

    Args:
        words: In any case and width.

    Example:
        >>> refused = Refused(["rape", "色情"])
        >>> [refused.finds(text) for text in ("a bunch of grapes", "ＲＡＰＥ", "有色情的畫")]
        [False, True, True]
    """

    def __init__(self, words: list[str] | tuple[str, ...] = ()) -> None:
        even = sorted({_even(word) for word in words} - {""}, key=len, reverse=True)
        latin = [re.escape(word) for word in even if word.isascii()]
        others = [re.escape(word) for word in even if not word.isascii()]
        bounded = [rf"(?<![a-z0-9])(?:{'|'.join(latin)})(?![a-z0-9])"] if latin else []
        patterns = [*bounded, *others]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    @classmethod
    def of(cls, file: str | None) -> Refused:
        """Return the words that are always refused, and those of a file.

        Raises:
            UserError: the file cannot be read.
        """
        return cls([*ALWAYS, *(_lines(file) if file else ())])

    def finds(self, text: str) -> bool:
        """Whether a text has a word that is refused."""
        return self._pattern is not None and self._pattern.search(_even(text)) is not None


def _even(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _lines(file: str) -> list[str]:
    try:
        data = Path(file).read_bytes()
        if len(data) > LARGEST_FILE:
            raise ValueError(f"it has {len(data)} bytes")
        return data.decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(
            f"--refused_words {file} cannot be read ({error}); expected a UTF-8 text file with "
            "one word a line; correct it"
        ) from error

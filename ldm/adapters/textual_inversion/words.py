r"""Find trigger words in texts, as AUTOMATIC1111's program finds them. Imports no torch.

In any case, the longest first, and only where CLIP's own words begin and end: a letter before or
after makes it another word. ComfyUI's ``embedding:word`` and ``embedding:word.pt`` are it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import regex

_COMFYUI, _ENDING = "embedding:", r"\.(?:pt|bin|safetensors)(?!\p{L})"
_GROUPS_BEFORE = 2  # the prefix's is the first, and groups count from 1


class Words:
    """Finds words in texts.

    Args:
        words: What to find.

    Attributes:
        words: They, the longest first.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words: Sequence[str] = sorted(words, key=len, reverse=True)
        found = "|".join(f"({_bounded(word)})" for word in self.words)
        prefix = rf"((?<!\p{{L}}){_COMFYUI})?"
        self._pattern = regex.compile(
            rf"{prefix}(?:{found})(?(1)(?:{_ENDING})?)" if self.words else r"(?!)",
            regex.IGNORECASE,
        )

    def stretches(self, text: str) -> Iterable[tuple[int, int, int]]:
        """Yield where words begin and end, and the number of each in ``words``."""
        for found in self._pattern.finditer(text):
            yield *found.span(), found.lastindex - _GROUPS_BEFORE

    def called(self, texts: Iterable[str]) -> list[str]:
        """Return the words that stand in texts, each once."""
        numbers = dict.fromkeys(n for text in texts for *_, n in self.stretches(text))
        return [self.words[n] for n in numbers]


def _bounded(word: str) -> str:
    r"""Return a word's pattern: letters end a word of letters, as in CLIP's ``[\p{L}]+``."""
    body = r"\s+".join(map(regex.escape, word.split()))
    before = r"(?<!\p{L})" if regex.match(r"\p{L}", word) else ""
    after = r"(?!\p{L})" if regex.search(r"\p{L}\Z", word) else ""
    return before + body + after

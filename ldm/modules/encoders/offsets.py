"""Find the stretch of a text that each character of its cleaned form stands for.

Tokenizers clean a text (repair, lower-case, space out) before they cut it. What a user points at
is in the text as it was given, so each character of the cleaned text is traced back to it:

    text => letters, each cleaned alone => compared with the cleaned text => stretches of the text
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher

import regex

Span = tuple[int, int]  # start and end (excluded) of a stretch, in characters
Change = tuple[str, int, int, int, int]  # kind and both stretches, as difflib's opcodes have them

# A letter with all its marks: "e" and a combining accent are cleaned together or not at all.
_LETTER = regex.compile(r"\s+|\X")
# difflib takes up to cubic time, so that long texts are compared piece by piece.
WINDOW = 256  # characters
# Where a piece ends, agreement of fewer characters may be chance.
SURE = 8  # characters


def cleaned_letters(text: str, clean: Callable[[str], str]) -> tuple[str, list[Span]]:
    """Clean a text letter by letter.

    Args:
        text: Any text.
        clean: What a tokenizer does to a whole text.

    Returns:
        The cleaned letters, with one space for each run of white space inside and none around,
        and for each of their characters the stretch of ``text`` that it stands for.

    Example:
        >>> cleaned_letters("A  ﬁg", str.lower)
        ('a ﬁg', [(0, 1), (1, 3), (3, 4), (4, 5)])
    """
    letters: list[str] = []
    spans: list[Span] = []
    known: dict[str, str] = {}
    for found in _LETTER.finditer(text):
        raw = found[0]
        if raw not in known:
            known[raw] = " " if raw.isspace() else clean(raw)
        cleaned = known[raw]
        letters += cleaned
        spans += [found.span()] * len(cleaned)
    inner = slice(letters[:1] == [" "], len(letters) - (letters[-1:] == [" "]))
    return "".join(letters[inner]), spans[inner]


def sources(text: str, cleaned: str, clean: Callable[[str], str]) -> list[Span]:
    """Trace each character of a cleaned text back to the text.

    Exact where cleaning works on single letters: case, full-width letters, ligatures, curly
    quotes, runs of white space, letters composed of several characters. What depends on more than
    a letter (mojibake, HTML escapes, terminal escapes) is found by comparing the two texts; of a
    stretch that differs each new character stands for the whole, and what has been taken out
    belongs to the character before it. Control characters that cleaning drops belong to none.

    Args:
        text: The text as it was given.
        cleaned: ``clean(text)``.
        clean: What the tokenizer does to a whole text.

    Returns:
        For each character of ``cleaned`` the stretch (start, end) of ``text``; neither starts nor
        ends ever go back.

    Example:
        >>> sources("Ｏk &amp; go", "ok & go", str.lower)[3]
        (3, 8)
    """
    letters, spans = cleaned_letters(text, clean)
    return _through(_changes(letters, cleaned), spans or [(0, len(text))], cleaned)


def _through(changes: Iterator[Change], spans: Sequence[Span], cleaned: str) -> list[Span]:
    """Carry the stretches of the letters over to the cleaned text, change by change."""
    traced: list[Span] = []
    waiting: int | None = None  # where a stretch begins that was taken out before a word
    for kind, i, i_end, j, j_end in changes:
        if kind == "insert":
            traced += [traced[-1] if traced else spans[0]] * (j_end - j)
            continue
        whole = spans[i][0], spans[i_end - 1][1]
        if kind == "delete":
            if traced and not cleaned[j - 1].isspace():
                traced[-1] = traced[-1][0], whole[1]
            elif waiting is None:
                waiting = whole[0]
            continue
        same = i_end - i == j_end - j
        traced += spans[i:i_end] if same else [whole] * (j_end - j)
        if waiting is not None:
            traced[j] = waiting, traced[j][1]
            waiting = None
    return traced


def _changes(a: str, b: str) -> Iterator[Change]:
    """Compare two texts as difflib does, in time that grows with their length and no faster."""
    i = j = 0
    while i < len(a) or j < len(b):
        same = _common(a, b, i, j)
        if same:
            yield "equal", i, i + same, j, j + same
            i, j = i + same, j + same
            continue
        compared = SequenceMatcher(None, a[i : i + WINDOW], b[j : j + WINDOW], autojunk=False)
        found = compared.get_opcodes()
        if i + WINDOW < len(a) or j + WINDOW < len(b):
            found = _up_to_agreement(found)
        for kind, i0, i1, j0, j1 in found:
            yield kind, i + i0, i + i1, j + j0, j + j1
        i, j = i + found[-1][2], j + found[-1][4]


def _common(a: str, b: str, i: int, j: int) -> int:
    limit = min(len(a) - i, len(b) - j)
    return next((n for n in range(limit) if a[i + n] != b[j + n]), limit)


def _up_to_agreement(found: list[Change]) -> list[Change]:
    """Drop what follows the last sure agreement: the end of a piece may have cut a word."""
    sure = [
        n for n, (kind, i, i_end, *_) in enumerate(found) if kind == "equal" and i_end - i >= SURE
    ]
    return found[: sure[-1] + 1] if sure else found

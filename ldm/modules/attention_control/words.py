"""Words of a prompt and the tokens that stand for them, in any script.

Scripts with spaces are cut at spaces and punctuation. Scripts without (Japanese, Chinese, Thai,
...) are searched character by character, and shown as runs of one script: 赤 い 猫 の 写真.

Shapes: L tokens in a row (77 for CLIP).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import regex

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.modules.encoders.offsets import Span, cleaned_letters
from ldm.modules.encoders.rows import token_row
from ldm.modules.encoders.tokenizer import clean_text

_SCRIPTS = ("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar")
_LENGTH = "ーｰ"  # lengthens a kana and is of no script of its own
_MARK = r"\p{M}ﾞﾟ"  # belong to the letter before them
_RUNS = "|".join(rf"\p{{{name}}}[\p{{{name}}}{_LENGTH}{_MARK}]*" for name in _SCRIPTS)
_UNSPACED = "".join(rf"\p{{{name}}}" for name in _SCRIPTS)
_LETTER = rf"[\p{{L}}\p{{N}}--[{_UNSPACED}{_LENGTH}{_MARK}]]"
_SPACED = rf"{_LETTER}[{_LETTER}{_MARK}]*"
_NUMBER = rf"\p{{Nd}}+(?:[.,]\p{{Nd}}+)+(?:{_SPACED})?"
_WORD = regex.compile(
    rf"{_RUNS}|{_NUMBER}|{_SPACED}(?:['’]{_SPACED})*|(?=\p{{Extended_Pictographic}})\X", regex.V1
)
_UNSPACED_LETTER = regex.compile(f"[{_UNSPACED}]", regex.V1)
_GOES_ON = regex.compile(rf"[{_MARK}]|(?<={_LETTER}[{_MARK}]*){_LETTER}", regex.V1)
_EDGES = regex.compile(r"^[\p{P}\s]+|[\p{P}\s]+$")


@dataclass(frozen=True)
class Word:
    """A word of a prompt.

    Args:
        text: The word as it stands in the prompt.
        positions: Its tokens, in 0..L-1, rising.
    """

    text: str
    positions: tuple[int, ...]


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt and the row of tokens that the text encoder gets for it.

    Args:
        text: The prompt as it was given.
        ids: L ids: start, tokens, end, padding; a long prompt is cut to the row.
        spans: For each id the stretch (start, end) of ``text`` that it stands for, in characters;
            None for start, end and padding.
        start: How many start tokens the row has.
    """

    text: str
    ids: tuple[int, ...]
    spans: tuple[Span | None, ...]
    start: int = 1

    @property
    def length(self) -> int:
        """L, the number of tokens in a row."""
        return len(self.ids)

    @cached_property
    def count(self) -> int:
        """Number of tokens before the end token, start included: the end token's position."""
        return max((n + 1 for n, span in enumerate(self.spans) if span), default=self.start)

    def positions(self, word: str) -> tuple[int, ...]:
        """Return the tokens of a word or phrase, wherever it stands in the prompt.

        Case, width of letters, and kinds of quotes and white space do not matter. In scripts with
        spaces whole words are found ("cat" is not in "caterpillar"), in others any characters. A
        token that covers a part of the word counts.

        Args:
            word: As in the prompt, with or without the punctuation around it.

        Returns:
            Positions in 0..L-1, rising; at least one.

        Raises:
            UserError: The word is not in the prompt, or it stands where the encoder cuts off.
        """
        found = self._found(word) or self._found(_EDGES.sub("", word))
        if not found:
            raise UserError(
                f"{quoted(word)} is not in the prompt {quoted(self.text)}; "
                f"expected one of its words{self._hint(word)}"
            )
        positions = sorted({n for span in found for n in self._covering(span)})
        if not positions:
            rest = self.text[max((span[1] for span in self.spans if span), default=0) :].strip()
            raise UserError(
                f"{quoted(word)} is beyond what the text encoder reads of the prompt, "
                f"{self.length} tokens; expected a word before {quoted(rest)}; "
                "shorten the prompt or move the word forward"
            )
        return tuple(positions)

    def has(self, word: str) -> bool:
        """Return whether the encoder reads a word or phrase in this prompt."""
        try:
            self.positions(word)
        except UserError:
            return False
        return True

    def words(self) -> list[Word]:
        """Return the words that the encoder reads, in order, for showing; punctuation is none.

        Neighbours without a space between are one word where the tokens of one are all the
        other's: what a tokenizer keeps together (a vocabulary's 赤い) is not taken apart.
        """
        shown: list[tuple[Span, tuple[int, ...]]] = []
        for match in _WORD.finditer(self.text):
            span, tokens = match.span(), tuple(self._covering(match.span()))
            while shown and _are_one(shown[-1][1], tokens):
                before = shown[-1][0]
                if regex.search(r"\s", self.text[before[1] : span[0]]):
                    break
                span = before[0], span[1]
                tokens = tuple(sorted({*tokens, *shown.pop()[1]}))
            if tokens:
                shown.append((span, tokens))
        return [Word(self.text[slice(*span)], tokens) for span, tokens in shown]

    def units(self) -> list[Span]:
        """Return the stretches of the text that word swaps count, cut-off ones included.

        They are the words between white space, as published; one with letters of a script
        without spaces is cut further, at the runs of one script. Punctuation belongs to the word
        that it follows, so that the stretches cover everything but white space.
        """
        return [unit for found in regex.finditer(r"\S+", self.text) for unit in _cut(found)]

    def _covering(self, stretch: Span) -> Iterator[int]:
        begin, end = stretch
        for n, span in enumerate(self.spans):
            if span and span[0] < end and begin < span[1]:
                yield n

    @cached_property
    def _letters(self) -> tuple[str, list[Span]]:
        return cleaned_letters(self.text, clean_text)

    def _found(self, word: str) -> list[Span]:
        """Return the stretches of the text where a word stands."""
        letters, spans = self._letters
        wanted = cleaned_letters(word, clean_text)[0]
        if not wanted:
            return []
        # Whole, so that no word and no letter goes on where a match begins or ends.
        return [
            (spans[begin][0], spans[end - 1][1])
            for begin, end in _matches(wanted, letters)
            if not any(_GOES_ON.match(letters, place) for place in (begin, end))
        ]

    def _hint(self, word: str) -> str:
        known = {each.text.casefold(): each.text for each in self.words()}
        near = difflib.get_close_matches(word.casefold(), known, n=1)
        if near:
            return f"; did you mean {quoted(known[near[0]])}?"
        return f": {', '.join(map(quoted, known.values()))}" if known else ", and it has none"


def read_prompt(tokenizer: Any, text: str, length: int | None = None) -> TokenizedPrompt:
    """Read a prompt as the text encoder will.

    Args:
        tokenizer: A conditioner's: one of ours, or one with the interface of transformers.
        text: The prompt.
        length: L of a foreign tokenizer; None means what it says itself.

    Raises:
        UserError: A foreign tokenizer does not say L, or its pieces are not found in the prompt.

    Example:
        >>> from ldm.modules.encoders.tokenizer import CLIPTokenizer
        >>> read_prompt(CLIPTokenizer(), "a light blue house, and a house").positions("house")
        (4, 8)
    """
    row = token_row(tokenizer, text, length)
    return TokenizedPrompt(text, row.ids, row.spans, row.start)


def _matches(wanted: str, letters: str) -> Iterator[Span]:
    """Yield where a text stands, overlapping: 山山 has two places in 山山山.

    ``str.find`` takes time in proportion to the letters; regular expressions take seconds for
    a thousand that repeat themselves.
    """
    begin = letters.find(wanted)
    while begin >= 0:
        yield begin, begin + len(wanted)
        begin = letters.find(wanted, begin + 1)


def _are_one(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    return bool(after) and (set(before) <= set(after) or set(after) <= set(before))


def _cut(found: regex.Match) -> list[Span]:
    """Cut what stands between white space at the runs of scripts without spaces, if it has any."""
    begin, end = found.span()
    if not _UNSPACED_LETTER.search(found[0]):
        return [(begin, end)]
    cuts = [begin, *(begin + word.start() for word in _WORD.finditer(found[0])), end]
    cuts = [cut for n, cut in enumerate(cuts) if n != 1]  # what precedes the first word is its own
    return list(zip(cuts, cuts[1:], strict=False))

"""Translate a prompt phrase by phrase: a user's glossary, the dictionary, a translation model.

    prompt -> pieces: tags, weights, brackets, Latin words | Japanese or Chinese phrases
    phrase -> words  -> English, if glossary and dictionary know them all
                     -> the translation model's English, if there is one
                     -> the English of the known words; the others are named

What is in Latin letters, numbers, weights (``word:0.25``, ``(word:1.2)``), brackets and tags
(``<lora:name:1>``) stays as it is typed. Full-width signs become ordinary ones where a prompt is
translated (NFKC).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from ldm.translation.chinese import (
    ChineseLexicon,
    chinese_dictionary,
    chinese_tokens,
    chinese_words,
)
from ldm.translation.chinese_grammar import chinese_in_english, hang_together
from ldm.translation.detect import language_of
from ldm.translation.english import Phrase
from ldm.translation.grammar import english_of
from ldm.translation.letters import has_cjk
from ldm.translation.lexicon import LONGEST_WORD, Lexicon, Words, dictionary, own_words
from ldm.translation.pieces import ADJECTIVES
from ldm.translation.politeness import plainly, plainly_chinese
from ldm.translation.sentence import UNKNOWN, Token, tokens_of

Machine = Callable[[str], str]
"""A translation model: Japanese or Chinese in, English out."""
_TAG = re.compile(r"(<[^<>\n]*>)")
_PHRASE = re.compile(r"([\w・](?:[\w・]|['’-](?=\w))*)")
_JAPANESE_SIGNS = str.maketrans({"、": ",", "。": ",", "「": '"', "」": '"', "『": '"', "』": '"'})
_LONGEST = 200  # letters of words that are one phrase in spite of the spaces between them
# Where a phrase was that has no English: a weight that was its own goes with it.
_GONE = "\0"
_EMPTY = re.compile(rf"{_GONE}(?::[+-]?(?:\d+\.?\d*|\.\d+)(?=[\s,]|$))?(?P<behind>[\s,]*)")
# A background that is named by itself, and is not what something stands on.
_KEYWORD = re.compile(r"(?!an? )(?:(?!on |with |of )[\w-]+ )+background")


@dataclass(frozen=True)
class Translation:
    """A prompt in English.

    Attributes:
        english: The prompt.
        left_out: Words that nobody knew, as they are written.
    """

    english: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Language:
    """How a language is read.

    Attributes:
        lexicon: Its words, below a user's.
        plainly: Takes politeness out of a phrase.
        tokens_of: Cuts a phrase into words.
        english_of: Puts words into English order.
        hang_together: Tells of two words whether a space between them divides no phrases.
    """

    lexicon: Callable[[Words], Lexicon]
    plainly: Callable[[str], str]
    tokens_of: Callable[[str, Lexicon], list[Token]]
    english_of: Callable[[Sequence[Token]], str]
    hang_together: Callable[[Token, Token], bool]


def _hang_together_in_japanese(before: Token, after: Token) -> bool:
    """Return whether two words are like 赤い 猫 or 猫 の."""
    return before.is_particle() or before.kind in ADJECTIVES or after.is_particle()


_LANGUAGES = {
    "ja": _Language(
        lambda glossary: Lexicon([glossary, own_words(), dictionary()]),
        plainly,
        tokens_of,
        english_of,
        _hang_together_in_japanese,
    ),
    "zh": _Language(
        lambda glossary: ChineseLexicon([glossary, chinese_words(), chinese_dictionary()]),
        plainly_chinese,
        chinese_tokens,
        chinese_in_english,
        hang_together,
    ),
}


class Translator:
    """Translates prompts; one that has neither kana nor a Chinese character is returned as it is.

    Args:
        glossary: A user's words, which come before all others, see ``read_glossary``.
        machine: Translates phrases that have words which are in no table; None leaves those out.
        machine_reads: The code of the language that ``machine`` is asked in, and no other.

    Example:
        >>> Translator()("赤い背景の猫:0.25 (masterpiece:1.2)").english
        'a cat on a red background:0.25 (masterpiece:1.2)'
        >>> Translator()("紅色背景的貓").english
        'a cat on a red background'
    """

    def __init__(
        self,
        glossary: Words | None = None,
        machine: Machine | None = None,
        machine_reads: str = "ja",
    ) -> None:
        self._glossary = glossary or {}
        self._machines = {machine_reads: machine}
        self._readers: dict[str, _Reader] = {}

    def __call__(self, prompt: str, language: str | None = None) -> Translation:
        """Translate a prompt.

        Args:
            prompt: The text.
            language: The code of its language; None tells it by its letters.
        """
        found = language_of(prompt)
        if found is None:
            return Translation(prompt)
        reader = self._reader(language or found)
        left_out: list[str] = []
        parts = [
            part if at % 2 else reader.translated(part, left_out)
            for at, part in enumerate(_TAG.split(prompt))
        ]
        english = _EMPTY.sub(_closed, "".join(parts))
        return Translation(_trimmed(english, prompt), tuple(dict.fromkeys(left_out)))

    def word(self, text: str, language: str | None = None) -> Translation:
        """Translate a word that is to be found in a translated prompt: without its article."""
        made = self(text, language)
        return Translation(Phrase.of(made.english).words, made.left_out)

    def _reader(self, code: str) -> _Reader:
        # Not before a prompt is in that language: no other has any use for its dictionary.
        if code not in self._readers:
            language = _LANGUAGES[code]
            lexicon = language.lexicon(self._glossary)
            self._readers[code] = _Reader(language, lexicon, self._machines.get(code))
        return self._readers[code]


@dataclass(frozen=True)
class _Reader:
    """Translates what is in one language.

    Attributes:
        language: How it is read.
        lexicon: Its words, the user's first.
        machine: What translates phrases with unknown words, if there is any.
    """

    language: _Language
    lexicon: Lexicon
    machine: Machine | None

    def translated(self, text: str, left_out: list[str]) -> str:
        """Translate a text without tags; add words that nobody knew to ``left_out``."""
        # A full-width comma divides as the Japanese one does, with a space behind it in English.
        text = text.replace("，", "、")
        pieces = _PHRASE.split(unicodedata.normalize("NFKC", text))
        parts = [
            (phrase and self._phrase(phrase, left_out), between)
            for phrase, between in self._phrases(pieces)
        ]
        return "".join(english + between for english, between in _thing_first(parts))

    def _phrases(self, pieces: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield each phrase with what stands behind it; those that hang together are one.

        Args:
            pieces: Signs and phrases in turn, signs first.
        """
        yield "", _signs(pieces[0])
        phrase = ""
        for at in range(1, len(pieces), 2):
            phrase, between = phrase + pieces[at], pieces[at + 1]
            following = pieces[at + 2] if at + 2 < len(pieces) else ""
            only_space = between.isspace() and has_cjk(phrase) and has_cjk(following)
            if only_space and len(phrase) <= _LONGEST and self._hang_together(phrase, following):
                continue
            yield phrase, ", " if only_space else _signs(between)
            phrase = ""

    def _hang_together(self, first: str, second: str) -> bool:
        """Return whether a space divides no phrases but words: 赤い 猫, 紅色 的 貓."""
        before = self._words(self.language.plainly(first)[-LONGEST_WORD:])
        after = self._words(self.language.plainly(second)[:LONGEST_WORD])
        return bool(before and after) and self.language.hang_together(before[-1], after[0])

    def _words(self, phrase: str) -> list[Token]:
        return self.language.tokens_of(phrase, self.lexicon)

    def _phrase(self, phrase: str, left_out: list[str]) -> str:
        if not has_cjk(phrase):
            return phrase
        tokens = self._words(self.language.plainly(phrase))
        unknown = [token.text for token in tokens if token.kind == UNKNOWN]
        if unknown and self.machine is not None:
            return self._by_machine(tokens) or _GONE
        left_out += unknown
        return self.language.english_of(tokens) or _GONE

    def _by_machine(self, tokens: Sequence[Token]) -> str:
        """Translate a phrase by the model, but for the words of the user's glossary."""
        parts = []
        for given, group in groupby(tokens, lambda token: token.word.rank == 0):
            if given:
                parts += [token.word.english for token in group]
            else:
                made = self.machine("".join(token.text for token in group))
                parts.append(made.strip().rstrip(".。"))
        return " ".join(part for part in parts if part)


def _thing_first(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return phrases and signs with a background that was named first behind the thing.

    Args:
        parts: Phrases in English with what stands behind each; the first phrase is empty.
    """
    if len(parts) < 3 or parts[0][1] or parts[1][1] != ", ":
        return parts
    (background, comma), (thing, behind) = parts[1:3]
    if not _KEYWORD.fullmatch(background) or thing in ("", _GONE):
        return parts
    return [parts[0], (thing, comma), (background, behind), *parts[3:]]


def _signs(text: str) -> str:
    """Return signs as English has them: a comma is followed by a space."""
    changed = text.translate(_JAPANESE_SIGNS)
    return text if changed == text else re.sub(r",(?=\S)|,$", ", ", changed)


def _closed(empty: re.Match) -> str:
    """Return what is left where a phrase vanished: nothing, or the end of a bracket's inside."""
    return empty["behind"] if empty["behind"].isspace() else ""


def _trimmed(english: str, prompt: str) -> str:
    """Return a prompt without the comma that ended its last sentence."""
    english = re.sub(r"[ \t]{2,}", " ", english) if "  " not in prompt else english
    return re.sub(r"^[\s,]+|[\s,]+$", "", english)


@cache
def default_translator() -> Translator:
    """Return the translator that has no glossary and no model."""
    return Translator()

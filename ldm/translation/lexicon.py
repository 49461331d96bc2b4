"""Words with their classes: the project's own, and those of the dictionary that ships.

Japanese classes: ``n`` noun, ``a`` adjective in い, ``na`` adjective in な or の, ``v1`` and ``v5``
verbs of either conjugation, ``vs`` noun that する makes a verb of, ``adv`` adverb. What the
grammar knows by itself has classes of its own: ``kind`` (写真, 絵), ``rel`` (上, 隣), ``be`` (いる,
ある; ない as "without"), ``num`` (たくさん), ``p`` particle.

The English of a verb is its base form, with the preposition of what stands in に behind a bar
("sit|on"); that of a noun has the article that it takes ("a cat").
"""

from __future__ import annotations

import gzip
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from ldm.data.demo.scene_captions import with_article
from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS, SIZES
from ldm.translation.inflection import base_forms
from ldm.translation.letters import is_kana

FOLDER = Path(__file__).resolve().parent
SHIPPED = FOLDER / "dictionary.tsv.gz"
OWN = FOLDER / "own_words.tsv"
ALIAS = "="
MEMORY = 10_000  # spellings
LONGEST_WORD = 16  # letters of a word with its ending
_POLITE = ("お", "御", "ご")  # in front of a noun: お面, ご馳走
_POLITELY_NAMED = ("n", "part", "wear")
_TO_HIRAGANA = {code: code - 0x60 for code in range(ord("ァ"), ord("ヶ") + 1)}
_TO_KATAKANA = {kana: code for code, kana in _TO_HIRAGANA.items()}


@dataclass(frozen=True)
class Word:
    """A word in a sentence, in English.

    Attributes:
        kind: Its class.
        english: Its rendering.
        form: Which form of a verb it is, see ``ldm.translation.inflection``.
        rank: 0 for a user's word, 1 for one of the project's own, 2 for the dictionary's.
    """

    kind: str
    english: str
    form: str = "base"
    rank: int = 2


Words = Mapping[str, tuple[str, str]]
"""Classes and renderings by spelling."""


class Lexicon:
    """Words in layers: the first that knows one has it.

    Args:
        layers: A user's words, the project's, the dictionary's; the number is the words' rank.

    Attributes:
        find: Returns the ``Word`` of a spelling, or None; remembers what it was asked last.
    """

    def __init__(self, layers: Sequence[Words]) -> None:
        self.layers = layers
        self.find = lru_cache(MEMORY)(self._find)

    def _find(self, spelling: str) -> Word | None:
        """Return a word in any of its forms, in hiragana for katakana and the other way about."""
        found = self._in_layers(spelling)
        if found is None and spelling.startswith(_POLITE) and not is_kana(spelling):
            plain = self._in_layers(spelling[1:])
            return plain if plain is not None and plain.kind in _POLITELY_NAMED else None
        return found

    def _in_layers(self, spelling: str) -> Word | None:
        forms = list(base_forms(spelling))
        for rank, words in enumerate(self.layers):
            for alike in dict.fromkeys((spelling, *_in_other_kana(spelling))):
                if alike in words:
                    return Word(*words[alike], rank=rank)
            for base, classes, form in forms:
                kind, english = words.get(base, ("", ""))
                if kind in classes:
                    return Word("v" if kind == "vs" else kind, english, form, rank)
        return None


def _in_other_kana(text: str) -> tuple[str, str]:
    return text.translate(_TO_HIRAGANA), text.translate(_TO_KATAKANA)


def read_table(text: str) -> dict[str, tuple[str, str]]:
    """Read lines of spellings (divided by bars), class and English; ``#`` begins a remark.

    A line of the class ``=`` names another word, whose spellings these are too.
    """
    words: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            spellings, kind, english = line.split("\t")
            entry = words[english] if kind == ALIAS else (kind, english)
            words.update(dict.fromkeys(spellings.split("|"), entry))
    return words


@cache
def own_words() -> dict[str, tuple[str, str]]:
    """Return the project's words: those of the bundled model's scenes, and the art of prompts."""
    words = {noun.japanese: ("n", with_article(noun.english)) for noun in NOUNS.values()}
    for colour in COLOURS.values():
        stem = colour.japanese.removesuffix("の")
        words[stem] = ("a" if stem.endswith("い") else "na", colour.english)
    for size in SIZES.values():
        if size.japanese:
            words[size.japanese] = ("a", size.english)
    table = OWN.read_text(encoding="utf-8")
    lines = (f"{word}\t{kind}\t{english}" for word, (kind, english) in words.items())
    words = read_table("\n".join((*lines, table)))
    worn = {f"{word}姿": entry for word, entry in words.items() if entry[0] == "wear"}
    return worn | words


class SortedLines(Mapping[str, tuple[str, str]]):
    """A table whose lines are looked up where they stand: parsing all takes longer than drawing.

    Args:
        text: Lines of a spelling, its class and its English, sorted.
    """

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    def __getitem__(self, spelling: str) -> tuple[str, str]:
        front = f"{spelling}\t"
        at = bisect_left(self._lines, front)
        if at == len(self._lines) or not self._lines[at].startswith(front):
            raise KeyError(spelling)
        _, kind, english = self._lines[at].split("\t")
        return kind, english

    def __iter__(self) -> Iterator[str]:
        return (line.partition("\t")[0] for line in self._lines)

    def __len__(self) -> int:
        return len(self._lines)


@cache
def dictionary() -> Words:
    """Return the words of the dictionary that ships."""
    return SortedLines(gzip.decompress(SHIPPED.read_bytes()).decode())

"""Cut a Japanese phrase into words: all of it if possible, in as few words as possible.

Japanese has no spaces, so the longest word first would take one into its neighbour now and then:
ねことりす is ねこ, と, りす and not ねこ, とり, す. Of all ways to cut a phrase the cheapest is
taken, where a letter that belongs to no word costs most, and a rare or short word in hiragana more
than others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ldm.translation.letters import CJK, KANA, is_kana
from ldm.translation.lexicon import LONGEST_WORD, Lexicon, Word

PARTICLES = (
    *("の", "を", "に", "が", "は", "も", "と", "や", "で", "へ", "から", "まで", "な", "より"),
    *("には", "では", "とか", "だ", "という", "といった", "など", "か", "さん", "ちゃん", "くん"),
    *("に向かって", "に向けて", "によって", "として", "して"),
    *("ね", "よ", "たち", "達", "と一緒に", "といっしょに", "している", "した", "する"),
)
UNKNOWN, PARTICLE, FOREIGN = "?", "p", "latin"
_COST = {0: 4, 1: 6, 2: 10}  # by rank
_OF_PARTICLE, OF_UNKNOWN = 3, 60
FOREIGN_WORD = re.compile(rf"[^{KANA}{CJK}・]+")
_NUMBER = re.compile(
    "(?P<number>[0-9]+|[一二三四五六七八九十百]+|数|ひと|ふた|みっ|よっ|いつ)"
    "(?P<counter>匹|人(?!形|間|物|魚)|名|本|個|枚|羽|頭|台|つ|り|冊|輪|隻|機|軒|杯|皿|粒|体|足|着)"
)
# 五歳, 20代
_AGE = re.compile("(?P<number>[0-9]+|[一二三四五六七八九十百]+)(?P<unit>歳|才|(?<=[0-9])代(?!目))")
_OLD = {"歳": "year-old", "才": "year-old", "代": "something"}
_NUMBERS = dict(
    zip(
        "一二三四五六七八九十",
        ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        strict=True,
    )
)
_NUMBERS |= {str(n): name for n, name in enumerate(_NUMBERS.values(), 1)}
_NUMBERS |= {"ひと": "one", "ふた": "two", "みっ": "three", "よっ": "four", "いつ": "five"}
_NUMBERS |= {"数": "several", "兩": "two", "两": "two"}
_PLACES = {"十": 10, "百": 100}


def number_name(number: str) -> str:
    """Return a number in English: up to ten in words, above in digits.

    Example:
        >>> [number_name(text) for text in ("3", "三", "二十", "百二十三", "兩", "20")]
        ['three', 'three', '20', '123', 'two', '20']
    """
    if number in _NUMBERS or number.isdecimal():
        return _NUMBERS.get(number, number)
    digits = {letter: value for value, letter in enumerate("一二三四五六七八九", 1)}
    total = unit = 0
    for letter in number:
        if letter in _PLACES:
            total, unit = total + (unit or 1) * _PLACES[letter], 0
        else:
            unit = digits[letter]
    return str(total + unit)


@dataclass(frozen=True)
class Token:
    """A piece of a phrase.

    Attributes:
        text: As it is written.
        word: What it is; of the class ``p`` for a particle, ``?`` where no word is known.
    """

    text: str
    word: Word

    @property
    def kind(self) -> str:
        """The word's class."""
        return self.word.kind

    def is_particle(self, *texts: str) -> bool:
        """Return whether it is one of these particles; with none named, whether it is one."""
        return self.kind == PARTICLE and (not texts or self.text in texts)


Candidates = Callable[[str, int], Iterator[tuple[int, int, Token]]]
"""Of a phrase and a place in it: where a token that begins there ends, what it costs, the token."""


def tokens_of(phrase: str, lexicon: Lexicon) -> list[Token]:
    """Cut a Japanese phrase into words.

    Args:
        phrase: After NFKC, without spaces; words in Latin letters and numbers are kept as one.
        lexicon: The words.
    """
    return cut(phrase, partial(_candidates, lexicon=lexicon))


def cut(phrase: str, candidates: Candidates) -> list[Token]:
    """Return the cheapest way to cut a phrase.

    Args:
        phrase: After NFKC, without spaces.
        candidates: Yields what could begin at a place of a phrase.
    """
    cheapest: list[tuple[int, int, Token | None]] = [(0, 0, None)]
    cheapest += [(1 << 60, 0, None)] * len(phrase)
    for start in range(len(phrase)):
        so_far = cheapest[start][0]
        for end, cost, token in candidates(phrase, start):
            if so_far + cost < cheapest[end][0]:
                cheapest[end] = (so_far + cost, start, token)
    tokens, end = [], len(phrase)
    while end:
        _, end, token = cheapest[end]
        tokens.append(token)
    return list(_joined(tokens[::-1]))


def _candidates(phrase: str, start: int, lexicon: Lexicon) -> Iterator[tuple[int, int, Token]]:
    """Yield what could begin at a place: its end, what it costs, and the token."""
    if foreign := FOREIGN_WORD.match(phrase, start):
        number = _NUMBER.match(phrase, start)
        if number is None and _AGE.match(phrase, start) is None:
            yield foreign.end(), 1, Token(foreign[0], Word(FOREIGN, foreign[0]))
    if number := _NUMBER.match(phrase, start):
        name = number_name(number["number"])
        yield number.end(), 7, Token(number[0], Word("num", name))
    if age := _AGE.match(phrase, start):
        name = number_name(age["number"])
        yield age.end(), 7, Token(age[0], Word("na", f"{name}-{_OLD[age['unit']]}"))
    for length in range(1, min(LONGEST_WORD, len(phrase) - start) + 1):
        text = phrase[start : start + length]
        if text in PARTICLES:
            yield start + length, _OF_PARTICLE, Token(text, Word(PARTICLE, ""))
        if word := lexicon.find(text):
            yield start + length, _cost(text, word), Token(text, word)
    nothing = 1 if phrase[start] == "・" else OF_UNKNOWN
    word = Word(PARTICLE, "") if phrase[start] == "・" else Word(UNKNOWN, "")
    yield start + 1, nothing, Token(phrase[start], word)


def _cost(text: str, word: Word) -> int:
    """Return what a word costs; the shorter and the rarer it is, the more."""
    cost = _COST[word.rank]
    if word.rank == 2 and is_kana(text):
        cost += max(0, 4 - len(text)) * 3
    return cost + (word.rank == 2 and len(text) == 1) * 3


def _joined(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the tokens with unknown letters that stand together as one."""
    unknown = ""
    for token in tokens:
        # ゴッホ風 without the painter is no wind; a dot joins the parts of a name.
        if token.kind == UNKNOWN or (unknown and token.text in ("風", "・")):
            unknown += token.text
            continue
        if unknown:
            yield Token(unknown, Word(UNKNOWN, ""))
            unknown = ""
        yield token
    if unknown:
        yield Token(unknown, Word(UNKNOWN, ""))

"""English word forms: riding, painted, two cats, an owl."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_IRREGULAR_VERBS = (
    "be been|bear borne|become become|begin begun|bend bent|bind bound|bite bitten|blow blown|"
    "break broken|bring brought|build built|burn burnt|buy bought|catch caught|choose chosen|"
    "come come|cut cut|dig dug|do done|draw drawn|drink drunk|drive driven|eat eaten|"
    "fall fallen|feed fed|fight fought|find found|fly flown|forget forgotten|freeze frozen|"
    "get gotten|give given|go gone|grow grown|hang hung|have had|hear heard|hide hidden|"
    "hit hit|hold held|keep kept|know known|lay laid|lead led|leave left|lie lain|light lit|"
    "lose lost|make made|meet met|put put|read read|ride ridden|ring rung|rise risen|run run|"
    "say said|see seen|sell sold|send sent|set set|shake shaken|shine shone|shoot shot|"
    "shut shut|sing sung|sink sunk|sit sat|sleep slept|speak spoken|spend spent|spread spread|"
    "stand stood|steal stolen|stick stuck|strike struck|sweep swept|swim swum|take taken|"
    "tear torn|tell told|think thought|throw thrown|tie tied|understand understood|wake woken|"
    "wear worn|weave woven|win won|wind wound|write written"
)
_IRREGULAR_NOUNS = (
    "man men|woman women|child children|person people|foot feet|tooth teeth|goose geese|"
    "mouse mice|fish fish|sheep sheep|deer deer|knife knives|wolf wolves|leaf leaves|life lives"
)
_PARTICIPLES = dict(pair.split() for pair in _IRREGULAR_VERBS.split("|"))
_PLURALS = dict(pair.split() for pair in _IRREGULAR_NOUNS.split("|"))
_MASS = ("rain", "snow", "water", "light", "fire", "fog", "smoke", "food", "grass", "rice")
_SINGULARS = {many: one for one, many in _PLURALS.items()}
# A stressed last syllable that ends in one vowel and one consonant doubles it.
_DOUBLED = re.compile(r"[^aeiou]*(qu)?[aeiou][bdgklmnprt]")
# Verbs among the words that end like nouns of verbs (imagination, movement, performance).
_NO_NOUNS = ("dance", "glance", "balance", "advance", "prance", "fence", "mention", "comment")
_NAMED = re.compile("[^aeiouy]*[aeiouy].*ing|.+(tion|sion|ment|ance|ence)")  # not "sing"
# One of each ends so.
_NO_PLURALS = ("lens", "canvas", "gas", "bus", "atlas", "compass", "series", "species", "bonsai")
_PAIRS = ("glasses", "sunglasses", "trousers", "jeans", "pants", "shorts", "scissors")
_ARTICLE = re.compile(r"(a|an) (?=\S)")


def _doubles(verb: str) -> bool:
    return bool(_DOUBLED.fullmatch(verb)) or verb in ("begin", "forget", "control", "admit")


def _inflected(phrase: str, change: str) -> str:
    verb, space, rest = phrase.partition(" ")
    if verb == "be" and rest:
        return rest
    if change == "ing":
        return _ing(verb) + space + rest
    return _participle(verb) + space + rest


def ing(phrase: str) -> str:
    """Return the form of what goes on.

    Example:
        >>> [ing(verb) for verb in ("ride", "sit down", "lie", "see", "sing", "dance")]
        ['riding', 'sitting down', 'lying', 'seeing', 'singing', 'dancing']
    """
    return _inflected(phrase, "ing")


def _ing(verb: str) -> str:
    if _NAMED.fullmatch(verb) and verb not in _NO_NOUNS:
        return verb  # named by a noun
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return (verb + verb[-1] if _doubles(verb) else verb) + "ing"


def participle(phrase: str) -> str:
    """Return the form of what is done.

    Example:
        >>> [participle(verb) for verb in ("paint", "carry", "break", "chop", "bake")]
        ['painted', 'carried', 'broken', 'chopped', 'baked']
    """
    return _inflected(phrase, "ed")


def _participle(verb: str) -> str:
    if verb in _PARTICIPLES:
        return _PARTICIPLES[verb]
    if verb.endswith("e"):
        return verb + "d"
    if re.search("[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    return (verb + verb[-1] if _doubles(verb) else verb) + "ed"


def adverb(adjective: str) -> str:
    """Return the adverb of an adjective.

    Example:
        >>> [adverb(word) for word in ("quiet", "happy", "gentle")]
        ['quietly', 'happily', 'gently']
    """
    if adjective.endswith("y"):
        return adjective[:-1] + "ily"
    return adjective[:-1] + "y" if adjective.endswith("le") else adjective + "ly"


def plural(noun: str) -> str:
    """Return the plural of a noun or of a phrase that ends in one.

    Example:
        >>> [plural(noun) for noun in ("cat", "fox", "small fish", "butterfly", "key")]
        ['cats', 'foxes', 'small fish', 'butterflies', 'keys']
    """
    front, space, last = noun.rpartition(" ")
    if last in _PLURALS:
        return front + space + _PLURALS[last]
    if re.search("[^aeiou]y$", last):
        return f"{noun[:-1]}ies"
    return noun + ("es" if re.search("(s|x|z|ch|sh)$", last) else "s")


def singular(noun: str) -> str:
    """Return one of what a plural names.

    Example:
        >>> [singular(noun) for noun in ("flowers", "autumn leaves", "fireflies", "foxes", "grass")]
        ['flower', 'autumn leaf', 'firefly', 'fox', 'grass']
        >>> singular("camera lens"), singular("houses")
        ('camera lens', 'house')
    """
    front, space, last = noun.rpartition(" ")
    if last in _SINGULARS:
        return front + space + _SINGULARS[last]
    if last in (*_NO_PLURALS, *_PAIRS):
        return noun
    if last.endswith("ies"):
        return f"{noun[:-3]}y"
    if re.search("(ss|x|zz|ch|sh)es$", last):
        return noun[:-2]
    return noun[:-1] if last.endswith("s") and not last.endswith(("ss", "us", "is")) else noun


@dataclass(frozen=True)
class Phrase:
    """A noun with what belongs to it.

    Attributes:
        words: The noun and what stands before it.
        counted: Whether it takes the article "a".
        after: What stands behind it.
    """

    words: str
    counted: bool = False
    after: str = ""

    @classmethod
    def of(cls, text: str) -> Phrase:
        """Read a phrase, whose article says that it is counted."""
        article = _ARTICLE.match(text)
        return cls(text[article.end() :], True) if article else cls(text)

    def __str__(self) -> str:
        vowel = self.words[:1].lower() in tuple("aeiou")
        article = ("an " if vowel else "a ") if self.counted and self.words else ""
        return " ".join(f"{article}{self.words} {self.after}".split())

    def with_front(self, text: str) -> Phrase:
        """Return it with words put in front of the noun."""
        return replace(self, words=f"{text} {self.words}".strip())

    def with_end(self, text: str) -> Phrase:
        """Return it with words put behind all."""
        return replace(self, after=f"{self.after} {text}".strip())

    def many(self, number: str) -> Phrase:
        """Return so many of it."""
        if self.words in _MASS:
            return replace(self, words=f"{number} {self.words}", counted=False)
        one = self.words if self.counted else singular(self.words)
        if one.rpartition(" ")[2] in _PAIRS:
            pairs = "pair" if number == "one" else f"{number} pairs"
            return replace(self, words=f"{pairs} of {one}", counted=number == "one")
        if number == "one":
            return replace(self, words=one, counted=True)
        return replace(self, words=f"{number} {plural(one)}", counted=False)

    def in_general(self) -> Phrase:
        """Return it without its article: many, if it can be counted."""
        words = plural(self.words) if self.counted else self.words
        return replace(self, words=words, counted=False)

"""Captions of the demo scenes, in English and Japanese.

A caption combines three choices: how the objects are worded, the kind of picture, and how the
background is named (if at all).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS, RELATIONS, SIZES

T = TypeVar("T")
# Picks one element of a sequence: the data set's seeded choice, or the first one in a test.
Pick = Callable[[Sequence[T]], T]

ENGLISH_KINDS = (
    "a photo of {x}",
    "a photograph of {x}",
    "a painting of {x}",
    "a picture of {x}",
    "{x}",
)
ENGLISH_BACKGROUNDS = (
    "{x} on {colour} background",
    "{x} on {colour} background",
    "{x} with {colour} background",
    "{x}, {bare} background",
)
JAPANESE_KINDS = ("{x}の写真", "{x}の絵", "{x}の画像", "{x}")
# The background is named either after the kind of picture or before the objects.
JAPANESE_BACKGROUNDS_AFTER = ("{x}、{colour}背景",)
JAPANESE_BACKGROUNDS_BEFORE = ("{colour}背景の{x}", "{colour}背景に{x}")


def caption_words() -> list[str]:
    """Return every word of the captions, what is written as two among them: "palm tree".

    A model that learned from the captions knows these and no others: the bundled model's YAML lists
    them under ``knows``, and a test holds it against this. Japanese, which has no
    spaces, comes in the pieces that captions are put together from.
    """
    english = ["a", "an", *NOUNS, *(colour.english for colour in COLOURS.values())]
    english += [size.english for size in SIZES.values()]
    patterns = [*ENGLISH_KINDS, *ENGLISH_BACKGROUNDS]
    patterns += [text for relation in RELATIONS.values() for text in relation.english]
    english += [word for piece in _literal(patterns) for word in piece.split()]
    japanese = [noun.japanese for noun in NOUNS.values()]
    japanese += [colour.japanese for colour in COLOURS.values()]
    japanese += [size.japanese for size in SIZES.values()]
    patterns = [*JAPANESE_KINDS, *JAPANESE_BACKGROUNDS_AFTER, *JAPANESE_BACKGROUNDS_BEFORE]
    patterns += [text for relation in RELATIONS.values() for text in relation.japanese]
    japanese += _literal(patterns)
    return [*dict.fromkeys(filter(None, english)), *dict.fromkeys(filter(None, japanese))]


def _literal(patterns: Iterable[str]) -> list[str]:
    """Return what stands between the fields of patterns, without commas."""
    pieces = (piece for pattern in patterns for piece in re.split(r"\{\w+\}|[,、]", pattern))
    return [piece.strip() for piece in pieces]


def with_article(phrase: str) -> str:
    """Put the indefinite article before an English phrase (every word here follows its letter)."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def english_caption(
    nouns: Sequence[str], size: str, relation: str | None, colour: str | None, pick: Pick
) -> str:
    """Word a scene in English.

    Args:
        nouns: one noun, or two in the order in which the caption names them.
        size: key of ``SIZES``; of one-object scenes only.
        relation: key of ``RELATIONS`` for two nouns, else None.
        colour: key of ``COLOURS``, or None to leave the background unnamed.
        pick: chooses one of several wordings.
    """
    if relation is None:
        phrase = with_article(f"{SIZES[size].english} {nouns[0]}".strip())
    else:
        first, second = (with_article(noun) for noun in nouns)
        phrase = pick(RELATIONS[relation].english).format(a=first, b=second)
    caption = pick(ENGLISH_KINDS).format(x=phrase)
    if colour is None:
        return caption
    return pick(ENGLISH_BACKGROUNDS).format(x=caption, colour=with_article(colour), bare=colour)


def japanese_caption(
    nouns: Sequence[str], size: str, relation: str | None, colour: str | None, pick: Pick
) -> str:
    """Word a scene in Japanese; the arguments are those of :func:`english_caption`."""
    words = [NOUNS[noun].japanese for noun in nouns]
    if relation is None:
        phrase = SIZES[size].japanese + words[0]
    else:
        phrase = pick(RELATIONS[relation].japanese).format(a=words[0], b=words[1])
    kind = pick(JAPANESE_KINDS)
    if colour is None:
        return kind.format(x=phrase)
    background = pick(JAPANESE_BACKGROUNDS_AFTER * 2 + JAPANESE_BACKGROUNDS_BEFORE)
    adjective = COLOURS[colour].japanese
    if background in JAPANESE_BACKGROUNDS_AFTER:
        return background.format(x=kind.format(x=phrase), colour=adjective)
    return kind.format(x=background.format(x=phrase, colour=adjective))


CAPTIONERS = {"en": english_caption, "ja": japanese_caption}

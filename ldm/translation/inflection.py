"""Undo the endings of Japanese verbs and adjectives: 走っている -> 走る, 赤く -> 赤い.

An ending leads to every dictionary form that could have it; the dictionary decides which is a
word. The forms: ``base`` (走る), ``te`` (走って, what goes on beside something else), ``ing``
(走っている), ``ta`` (走った), ``done`` (passive: 走られた), ``not`` (走らない).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

Ending = tuple[str, tuple[str, ...], str]
"""What the dictionary form ends with, the classes that a word of it has, and the form."""

# What follows the form in て (or で) and is part of the verb.
_AFTER_TE = {
    "te": ("",),
    "ing": (
        *("いる", "いた", "います", "いました", "いて", "る", "た", "ます", "ました"),
        *("ある", "あった", "おく", "おいた", "いく", "いった", "くる", "きた"),
        *("いるところ", "るところ"),
    ),
    "not": ("いない", "いなかった", "いません"),
}
# What follows the stem of polite and other forms.
_AFTER_STEM = {
    "base": ("ます", "たい", "そう", "そうな", "そうに", "やすい", "かけの"),
    "ta": ("ました",),
    "te": ("ながら", "つつ"),
    "not": ("ません",),
}
_AFTER_NEGATIVE = {"not": ("ない", "なかった", "なくて", "ず", "ずに", "ないで")}
_PASSIVE = ("れる", "れた", "れて", "れている", "れていた", "れてる", "れます", "れました", "れ")
# The rows of the five-step verbs: dictionary ending, a, i, e, and the contraction with て and た.
_ROWS = (
    ("く", "か", "き", "け", "いて", "いた"),
    ("ぐ", "が", "ぎ", "げ", "いで", "いだ"),
    ("す", "さ", "し", "せ", "して", "した"),
    ("つ", "た", "ち", "て", "って", "った"),
    ("ぬ", "な", "に", "ね", "んで", "んだ"),
    ("ぶ", "ば", "び", "べ", "んで", "んだ"),
    ("む", "ま", "み", "め", "んで", "んだ"),
    ("る", "ら", "り", "れ", "って", "った"),
    ("う", "わ", "い", "え", "って", "った"),
)
_ADJECTIVE = {
    "base": ("く", "くて", "かった", "ければ", "そうな", "そう", "すぎる", "めの", "さ", "き"),
    "not": ("くない", "くなかった"),
}
_SURU = {
    "base": ("する", "します"),
    "te": ("して", "しながら", "し"),
    "ta": ("した", "しました"),
    "not": ("しない", "しません"),
    "done": tuple("さ" + ending for ending in _PASSIVE),
}


def _conjugate(base: str, kind: str, stems: dict[str, str]) -> Iterator[tuple[str, Ending]]:
    """Yield the endings of verbs whose dictionary form ends with ``base``.

    Args:
        base: That ending.
        kind: The class of such verbs.
        stems: What stands in place of it: before て (``te``), た (``ta``), ます (``stem``), ない
            (``negative``) and れる (``passive``).
    """
    made = {stems["ta"]: "ta", stems["ta"] + "り": "te"}
    for form, endings in _AFTER_TE.items():
        made |= {stems["te"] + ending: form for ending in endings}
    for table, stem in ((_AFTER_STEM, "stem"), (_AFTER_NEGATIVE, "negative")):
        for form, endings in table.items():
            made |= {stems[stem] + ending: form for ending in endings}
    made |= {stems["passive"] + ending: "done" for ending in _PASSIVE}
    yield from ((ending, (base, (kind,), form)) for ending, form in made.items())


def _endings() -> dict[str, list[Ending]]:
    table: dict[str, list[Ending]] = defaultdict(list)
    one_step = {"te": "て", "ta": "た", "stem": "", "negative": "", "passive": "ら"}
    pairs = list(_conjugate("る", "v1", one_step))
    for base, a, i, _, te, ta in _ROWS:
        stems = {"te": te, "ta": ta, "stem": i, "negative": a, "passive": a}
        pairs += _conjugate(base, "v5", stems)
    # 行く is the one verb in く with って.
    pairs += _conjugate(
        "行く",
        "v5",
        {"te": "行って", "ta": "行った", "stem": "行き", "negative": "行か", "passive": "行か"},
    )
    for form, endings in _ADJECTIVE.items():
        pairs += [(ending, ("い", ("a",), form)) for ending in endings]
    for form, endings in _SURU.items():
        pairs += [(ending, ("", ("vs",), form)) for ending in endings]
    for form in ("ing", "not"):
        pairs += [("して" + rest, ("", ("vs",), form)) for rest in _AFTER_TE[form]]
    for ending, made in pairs:
        table[ending].append(made)
    return dict(table)


_ENDINGS = _endings()
_LONGEST = max(map(len, _ENDINGS))


def base_forms(word: str) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield the dictionary forms that a word could be of, with classes and form.

    The longest ending comes first.

    Example:
        >>> ("走る", ("v5",), "ing") in base_forms("走っている")
        True
        >>> [base for base, classes, _ in base_forms("赤く") if "a" in classes]
        ['赤い']
    """
    for length in range(min(_LONGEST, len(word)), 0, -1):
        for ending, classes, form in _ENDINGS.get(word[-length:], ()):
            if base := word[:-length] + ending:
                yield base, classes, form

"""Weights of words as AUTOMATIC1111 writes them: ``(word)``, ``(word:1.3)``, ``[word]``, ``BREAK``.

Round and square brackets are matched apart from each other, and one that is never closed weighs all
that follows it, as in the web UI. Imports no torch.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ldm.budgets import PROMPT_NESTING
from ldm.errors import UserError

STRONGER, WEAKER = 1.1, 1 / 1.1


class Piece(NamedTuple):
    """Text of one weight; ``BREAK`` begins a new row of tokens."""

    text: str
    weight: float


BREAK = Piece("BREAK", -1.0)
"""What stands for a break: the web UI gives it this weight."""

_TOKEN = re.compile(r"\\[()\[\]\\]|\\|[(\[]|:([+-]?[.\d]+)\)|[)\]]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\bBREAK\b")


def pieces(text: str) -> list[Piece]:
    r"""Split a text into pieces of equal weight.

    Raises:
        UserError: Brackets are nested too deep, or a weight is no number.

    Example:
        >>> pieces("a (red) [hat:2] BREAK (sky:1.5)")[1]
        Piece(text='red', weight=1.1)
        >>> pieces(r"\(literal\)")
        [Piece(text='(literal)', weight=1.0)]
    """
    found: list[list] = []
    open_at: dict[str, list[int]] = {"(": [], "[": []}
    for match in _TOKEN.finditer(text):
        token, weight = match[0], match[1]
        if token[0] == "\\":
            found.append([token[1:], 1.0])
        elif token in open_at:
            open_at[token].append(len(found))
            _check_depth(open_at[token])
        elif weight is not None and open_at["("]:
            _multiply(found, open_at["("].pop(), _number(weight))
        elif token == ")" and open_at["("]:
            _multiply(found, open_at["("].pop(), STRONGER)
        elif token == "]" and open_at["["]:
            _multiply(found, open_at["["].pop(), WEAKER)
        else:
            _add(found, token)
    for start in open_at["("]:
        _multiply(found, start, STRONGER)
    for start in open_at["["]:
        _multiply(found, start, WEAKER)
    return _merged(found)


def _add(found: list[list], text: str) -> None:
    first, *others = _BREAK.split(text)
    # White space around a break goes with it.
    parts = [first.rstrip() if others else first, *(each.strip() for each in others[:-1])]
    if others:
        parts.append(others[-1].lstrip())
    for number, part in enumerate(parts):
        if number:
            found.append(list(BREAK))
        found.append([part, 1.0])


def _multiply(found: list[list], start: int, factor: float) -> None:
    for piece in found[start:]:
        piece[1] *= factor


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(
            f"the weight {text[:20]!r} in a prompt was given; expected a number, such as (cat:1.3)"
        ) from error


def _check_depth(open_brackets: list[int]) -> None:
    if len(open_brackets) > PROMPT_NESTING:
        raise UserError(
            f"a prompt opens more than {PROMPT_NESTING} brackets inside one another; expected "
            "fewer; close them, or write \\( and \\[ for brackets that are text"
        )


def _merged(found: list[list]) -> list[Piece]:
    """Join neighbours of one weight."""
    runs: list[tuple[list[str], float]] = []
    for text, weight in found or [["", 1.0]]:
        if runs and runs[-1][1] == weight:
            runs[-1][0].append(text)
        else:
            runs.append(([text], weight))
    return [Piece("".join(texts), weight) for texts, weight in runs]

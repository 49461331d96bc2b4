"""How deep brackets nest in a text that a stranger wrote, and where one closes; in linear time."""

from __future__ import annotations

import json
import re
from typing import Any

from ldm.budgets import RECIPE_DEPTH

# A string, or a bracket outside of strings. A string that nobody ends is found as its mark alone.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}
_LONGEST_NUMBER = 400  # digits; the largest float has 309


class TooNested(ValueError):
    """Brackets stand within brackets more often than is read."""


def closing(text: str, start: int) -> int | None:
    """Return the position after the bracket that closes the one at ``start``.

    Returns:
        None if there is none, or if more than ``RECIPE_DEPTH`` are open at once.
    """
    depth = position = 0
    token, position = _TOKEN, start
    while found := token.search(text, position):
        if found[0] == '"':
            token = _BRACKET  # no string ends from here on
        depth += _STEPS.get(found[0], 0)
        position = found.end()
        if depth == 0:
            return position
        if depth > RECIPE_DEPTH:
            return None
    return None


def read_json(text: str) -> Any:
    """Read JSON with little enough nesting, and with numbers that a computer holds.

    Raises:
        TooNested: More than ``RECIPE_DEPTH`` brackets are open at once.
        ValueError: It is no JSON, or has a whole number of hundreds of digits.
    """
    depth = 0
    for found in _TOKEN.finditer(text):
        depth += _STEPS.get(found[0], 0)
        if depth > RECIPE_DEPTH:
            raise TooNested(f"its brackets nest deeper than {RECIPE_DEPTH}")
        if found[0] == '"':
            break  # a string without an end: no JSON, which the parser says
    return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> int:
    # Reading a number takes time that grows with the square of its length.
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)

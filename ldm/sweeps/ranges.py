"""Values of an axis as AUTOMATIC1111's X/Y/Z plot writes them: lists, steps, counts.

    1, 2, 5         these
    1-5             1 2 3 4 5
    1-10 (+3)       1 4 7 10: in steps of 3, as long as the end is not passed
    10-1 (-3)       10 7 4 1
    2-21 [7]        seven values from 2 to 21, equally far apart
    cat, "a, b"     texts; quotation marks around those with a comma

Imports no torch.
"""

from __future__ import annotations

import csv
import re
from decimal import Decimal

from ldm.errors import UserError
from ldm.legible import quoted

MOST_VALUES = 1000  # of one axis: a typo must not fill the memory
_DIGITS = 6  # of a value between two others: what its label shows is what is drawn
_NUMBER = r"[+-]?\s*(?:\d{1,20}(?:\.\d{1,20})?|\.\d{1,20})"
_RANGE = re.compile(
    rf"(?P<first>{_NUMBER})\s*-\s*(?P<last>{_NUMBER})\s*"
    rf"(?:\((?P<step>{_NUMBER})\s*\)|\[(?P<count>\s*\d{{1,20}}\s*)\])?"
)
_FORMS = "1, 2, 5 or 1-10 or 1-10 (+3) or 2-21 [7]"


def read_texts(text: str) -> list[str]:
    """Return the values of a list, in which quotation marks keep a comma.

    Raises:
        UserError: One is empty, or there are too many.

    Example:
        >>> read_texts('cat, "dogs, three of them"')
        ['cat', 'dogs, three of them']
    """
    try:
        # strict: a quotation mark that is not closed would swallow the rest without a word
        values = [
            each.strip()
            for each in next(csv.reader([text], skipinitialspace=True, strict=True), [])
        ]
    except csv.Error as error:
        raise UserError(
            f"{quoted(text)} was given as values; expected texts with commas between them, and "
            f"each quotation mark closed ({error}); change it"
        ) from error
    if not values or "" in values:
        raise UserError(
            f"{quoted(text)} was given as values; expected texts with commas between them, none "
            "of them empty; change it"
        )
    _check_count(len(values), text)
    return values


def read_numbers(text: str, *, whole: bool) -> list[str]:
    """Return the numbers of a list with ranges, as they are typed one by one.

    Args:
        text: Numbers and ranges with commas between them.
        whole: Whether they are whole numbers; those that count gives twice are left out.

    Raises:
        UserError: Something is neither a number nor a range, or there are too many.

    Example:
        >>> read_numbers("1-10 (+3)", whole=True), read_numbers("2-21 [3]", whole=False)
        (['1', '4', '7', '10'], ['2', '11.5', '21'])
    """
    values: list[str] = []
    for item in read_texts(text):
        if match := _RANGE.fullmatch(item):
            values += _spread(match, item, whole=whole)
        elif re.fullmatch(_NUMBER, item):
            values.append(_typed(_decimal(item)))
        else:
            raise UserError(
                f"{quoted(item)} was given as a value; expected numbers, such as {_FORMS}; "
                "change it"
            )
        _check_count(len(values), text)
    return values


def _spread(match: re.Match, item: str, *, whole: bool) -> list[str]:
    first, last = _decimal(match["first"]), _decimal(match["last"])
    if match["count"] is not None:
        return _counted(first, last, int(match["count"]), item, whole=whole)
    step = Decimal(1 if last >= first else -1)
    if match["step"] is not None:
        step = _decimal(match["step"])
    if step == 0 or (last - first) * step < 0:
        raise UserError(
            f"{quoted(item)} was given; expected a step that leads from {first} to {last}; "
            "change it"
        )
    steps = int((last - first) // step)
    _check_count(steps + 1, item)
    return [_typed(first + k * step) for k in range(steps + 1)]


def _counted(first: Decimal, last: Decimal, count: int, item: str, *, whole: bool) -> list[str]:
    if count < 1 or (count == 1 and first != last):
        raise UserError(
            f"{quoted(item)} was given; expected 2 values or more between its ends; change it"
        )
    _check_count(count, item)
    gap = (last - first) / max(count - 1, 1)
    values = [first + k * gap for k in range(count)]
    if whole:
        return list(dict.fromkeys(str(int(value)) for value in values))
    return [*(_typed(Decimal(f"{value:.{_DIGITS}g}")) for value in values[:-1]), _typed(last)]


def _decimal(text: str) -> Decimal:
    return Decimal("".join(text.split()))


def _typed(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _check_count(count: int, text: str) -> None:
    if count > MOST_VALUES:
        raise UserError(
            f"{quoted(text)} are {count} values; expected at most {MOST_VALUES}; give fewer"
        )

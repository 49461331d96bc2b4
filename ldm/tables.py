"""Tables for people and spreadsheets: CSV in UTF-8 whose cells never act."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.legible import escaped
from ldm.paths import ERRORS, reason

TEXT = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""How a table's file is opened."""
_FORMULA = ("=", "+", "-", "@", "\t")  # what a spreadsheet computes begins so
# Python turns bytes of a command line that are not UTF-8 into surrogates: written unchanged.
_BYTES = re.compile("([\udc80-\udcff]+)")


def inert(value: Any) -> Any:
    r"""Return a value as a cell may hold it: characters that act are escapes, formulas are text.

    Bytes of a command line that are not UTF-8 stay as they are.

    Example:
        >>> inert("=1+1"), inert("a\x1bcat"), inert(-1)
        ("'=1+1", 'a\\x1bcat', -1)
    """
    if not isinstance(value, str):
        return value
    parts = _BYTES.split(value)
    shown = "".join(part if _BYTES.fullmatch(part) else escaped(part) for part in parts)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a table whole or not at all; return how many rows it has.

    Args:
        path: The file; an older one is replaced.
        columns: Names of the columns, in order.
        rows: Cells by column; a column that a row lacks stays empty.

    Raises:
        UserError: The file cannot be written.
    """
    count = 0
    try:
        with replacing(path) as part, open(part, "w", **TEXT) as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            for row in rows:
                writer.writerow({name: inert(value) for name, value in row.items()})
                count += 1
    except ERRORS as error:
        raise UserError(
            f"{path} cannot be written ({reason(error)}); expected a place for a table; give "
            "another one"
        ) from error
    return count

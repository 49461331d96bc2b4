"""Styles: words that are put around a prompt, from a table as AUTOMATIC1111 writes it.

    name,prompt,negative_prompt
    Ink,"an ink drawing of {prompt}",colour

``{prompt}`` is where what was typed goes; without it, it goes before. Imports no torch.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import file_fault, is_file

COLUMNS = ("name", "prompt", "negative_prompt")
SHIPPED = Path(__file__).with_name("styles.csv")
OWN = Path("styles.csv")
LONGEST = 2**20  # characters of a table
MOST = 500  # styles


@dataclass(frozen=True)
class Style:
    """What a style adds.

    Attributes:
        prompt: With ``{prompt}`` where what was typed goes, or only what follows it.
        negative_prompt: Likewise.
    """

    prompt: str = ""
    negative_prompt: str = ""


def read_styles(file: str | None = None) -> dict[str, Style]:
    """Return the styles of a table by name, in its order.

    Args:
        file: The table; None is ``styles.csv`` in the present folder, else the one that ships.

    Raises:
        UserError: The file cannot be read, or is no such table.
    """
    path = Path(file) if file else OWN if is_file(OWN) else SHIPPED
    if fault := file_fault(path):
        raise UserError(f"--styles {path} {fault}; expected a table of styles; give another one")
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = csv.DictReader(text[:LONGEST].splitlines(keepends=True), strict=True)
        columns, rows = table.fieldnames or (), list(table)
    except UnicodeDecodeError as error:
        raise _no_table(path, f"is not UTF-8 (byte {error.start})") from error
    except (OSError, csv.Error) as error:
        raise _no_table(path, f"cannot be read ({error})") from error
    if columns and not {"name", "prompt"} <= {*columns}:
        raise _no_table(path, f"has the columns {quoted(', '.join(map(str, columns)))}")
    if len(rows) > MOST or len(text) > LONGEST:
        raise _no_table(path, f"has more than {MOST} styles or {LONGEST} characters")
    known = {row["name"]: _style(row) for row in rows if row["name"]}
    return {name: style for name, style in known.items() if style != Style()}


def names_of(value: Any) -> list[str]:
    """Return the names that the list of styles holds.

    Raises:
        UserError: It holds something else.
    """
    if not value:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UserError("there are no such styles; expected names of the list; choose some")
    return value


def with_styles(
    prompt: str, negative: str, names: Sequence[str], styles: Mapping[str, Style]
) -> tuple[str, str]:
    """Return a prompt and a negative prompt with styles added, one after the other.

    Raises:
        UserError: There is no style of that name.

    Example:
        >>> with_styles("a cat", "", ["Ink"], {"Ink": Style("ink, {prompt}", "colour")})
        ('ink, a cat', 'colour')
    """
    for name in names:
        if name not in styles:
            raise UserError(f"there is no style {quoted(name)}; expected one of the list; leave it")
        style = styles[name]
        prompt, negative = _around(prompt, style.prompt), _around(negative, style.negative_prompt)
    return prompt, negative


def _around(text: str, added: str) -> str:
    if "{prompt}" in added:
        return added.replace("{prompt}", text)
    return ", ".join(filter(None, (text.strip(), added.strip()))) if added.strip() else text


def _style(row: Mapping[str, str | None]) -> Style:
    return Style(*((row.get(column) or "").strip() for column in COLUMNS[1:]))


def _no_table(path: Path, fault: str) -> UserError:
    return UserError(
        f"--styles {path} {fault}; expected a table with the columns {', '.join(COLUMNS)}; "
        "correct it"
    )

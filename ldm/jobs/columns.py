"""Columns of a file of jobs: settings that a line may have, and their names. Imports no torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.mistyped import alike, bare, same_elsewhere
from ldm.settings.option import Option, options_of

SCHEMAS = (Txt2ImgSettings, Img2ImgSettings, InpaintSettings)
OF_THE_RUN = frozenset(
    (
        *("ckpt", "config", "trust_config", "use_ema", "device", "max_pixels", "safety_checker"),
        *("kernels", "compile", "graphs", "attention_backend", "decode_beside", "wildcards"),
    )
)
"""Settings that hold for a whole run: a line cannot have its own."""
OF_NO_JOB = frozenset(
    (
        *("from_file", "from_image", "outdir", "format", "skip_grid", "skip_save", "n_rows"),
        *("seed_mode", "fixed_code", "hint_only", "laion400m"),
    )
)
"""Settings that a picture of a run does not have: the run's own design takes their place."""
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


def _table() -> dict[str, Option]:
    found: dict[str, Option] = {}
    for schema in SCHEMAS:
        for each in options_of(schema):
            if each.name not in OF_THE_RUN | OF_NO_JOB:
                for name in (each.name, *map(bare, (each.flag, *each.synonyms))):
                    # Messages are to speak of the column, not of a flag.
                    found.setdefault(name, replace(each, flag=name))
    return found


COLUMNS = _table()
"""Each column by each of its names."""


def check_columns(names: Sequence[str]) -> None:
    """Check that each name is a setting that a line may have, and that none is there twice.

    Raises:
        UserError: naming the column and the nearest one that there is.
    """
    seen: dict[str, str] = {}
    for name in names:
        option = column(name)
        if option.name in seen:
            raise UserError(
                f"columns {quoted(seen[option.name])} and {quoted(name)} are the same setting; "
                "expected it once; leave one out"
            )
        seen[option.name] = name


def column(name: str) -> Option:
    """Return the setting that a column is.

    Raises:
        UserError: There is none of that name.

    Example:
        >>> column("init-img").name
        'init_img'
    """
    found = COLUMNS.get(name) or COLUMNS.get(bare(name) if len(name) > 1 else name)
    if found is not None:
        return found
    if bare(name) in OF_THE_RUN:
        raise UserError(
            f"column {quoted(name)} holds for the whole run; expected settings of single pictures; "
            f"leave it out and give --{bare(name)}"
        )
    flags = [f"--{each}" for each in COLUMNS]
    options = [replace(each, flag=each.name) for each in COLUMNS.values()]
    meant = same_elsewhere(name, options) or alike(f"--{bare(name)}", flags).lstrip("-")
    hint = f"did you mean {meant}?" if meant else "expected names of settings, such as prompt, seed"
    raise UserError(f"column {quoted(name)} is unknown; {hint}")


def value_of(option: Option, cell: Any) -> Any:
    """Return a setting's value from a cell: a text, or a value of the file's own type.

    Raises:
        UserError: It is of another kind, or out of range.
    """
    if isinstance(cell, str):
        if _NO_TEXT.search(cell):
            raise UserError(
                f"{option.flag} holds what is not UTF-8, or NUL; expected text; mend it"
            )
        return option.read(_several(cell) if option.several else cell)
    if option.several:
        texts = cell if isinstance(cell, (list, tuple)) else [cell]
        if not all(isinstance(text, str) for text in texts):
            raise UserError(f"{option.flag} was given {quoted(cell)}; expected texts; change it")
        return option.read(texts)
    value = cell
    if option.kind is int and isinstance(cell, float) and cell.is_integer():
        value = int(cell)  # a table with empty cells has all its numbers as floats
    if option.kind is float and type(cell) is int:
        value = float(cell)
    option.check(value)
    return value


def is_given(cell: Any) -> bool:
    """Return whether a cell has a value; tables write NaN where they have none."""
    return cell is not None and not (isinstance(cell, float) and math.isnan(cell))


def _several(text: str) -> list[str]:
    """Return the texts of a cell: one, or a JSON list of them."""
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            return found
    return [text]

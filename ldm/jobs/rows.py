"""Files of jobs as rows of cells: .txt, .csv, .jsonl and .parquet, one row in memory at a time.

What cells mean is ``ldm.jobs.lines``'s affair. Imports no torch.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import ERRORS, file_fault, reason
from ldm.settings.option import one_of

LONGEST_LINE = 10**6  # characters: more is no line of settings, and must not fill the memory
_ROWS_AT_ONCE = 1024  # of a .parquet file


@dataclass(frozen=True)
class Row:
    """One line of a file of jobs.

    Attributes:
        line: Which, from 1; rows of a .parquet file count from 1 too.
        cells: Texts, or values of the file's own types; None is a cell without a value.
    """

    line: int
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be drawn, and why: the end of a sentence that begins with the line."""

    line: int
    why: str


Check = Callable[[Sequence[str]], None]


def read_rows(path: str | Path, check: Check) -> Iterator[Row | BadLine]:
    """Read a file of jobs row by row; its ending tells the format.

    Args:
        path: The file.
        check: Raises UserError for columns that are not known; called once where a file has a
            header.

    Raises:
        UserError: The file cannot be read, or is none of these.
    """
    check_file(path)
    path = Path(path)
    return _named(path, _READERS[path.suffix.lower()](path, check))


def check_file(path: str | Path) -> None:
    """Check that a file is of a known format and can be read.

    Raises:
        UserError: It is not, or cannot.
    """
    if Path(path).suffix.lower() not in _READERS:
        raise UserError(
            f"JOBS {path} was given; expected a file that ends in {one_of(_READERS)}; rename it"
        )
    if fault := file_fault(path):
        raise UserError(f"JOBS {path} {fault}; expected a file of jobs; check the path")


def _named(path: Path, rows: Iterator[Row | BadLine]) -> Iterator[Row | BadLine]:
    try:
        yield from rows
    except UserError as error:
        raise UserError(f"JOBS {path}: {error}") from error
    except ERRORS as error:
        raise UserError(
            f"JOBS {path} cannot be read ({reason(error)}); expected a file of jobs; check it"
        ) from error


def _lines(file: TextIO) -> Iterator[str]:
    """Yield lines with their ends.

    Raises:
        UserError: One is too long to be held in memory.
    """
    number = 0
    while text := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(text) > LONGEST_LINE:
            raise UserError(
                f"line {number} has more than {LONGEST_LINE:,} characters; expected a job on each "
                "line; check that it is a text file"
            )
        yield text


def _opened(path: Path, newline: str | None = None) -> TextIO:
    # utf-8-sig: editors on Windows put a byte order mark in front. What is no UTF-8 becomes lone
    # surrogates, by which ``ldm.jobs.lines`` knows the line.
    return open(path, encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _text_rows(path: Path, check: Check) -> Iterator[Row | BadLine]:  # noqa: ARG001
    """Read prompts as ``--from-file`` does: each line is one, and a blank one is empty."""
    with _opened(path) as file:
        number = 0
        for text in _lines(file):
            for part in text.splitlines():
                number += 1
                yield Row(number, {"prompt": part})


def _csv_rows(path: Path, check: Check) -> Iterator[Row | BadLine]:
    with _opened(path, newline="") as file:
        reader = csv.reader(_lines(file), strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"the header cannot be read ({error}); expected names of settings; mend it"
            ) from error
        if not header:
            raise UserError(
                "no header was found; expected names of settings on the first line; add them"
            )
        names = [name.strip() for name in header]
        if len(names) == 1 and re.search(r"[;\t]", names[0]):
            raise UserError(
                "its header has no commas; expected cells with commas between them; save it so"
            )
        check(names)
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if reader.line_num > first or "field larger" in str(error):
                    raise _unclosed(first, error) from error
                yield BadLine(first, f"is not CSV ({error}); expected closed quotes; mend them")
                continue
            if not cells:
                continue
            if len(cells) != len(names):
                yield BadLine(
                    first,
                    f"has {len(cells)} cells, and the header {len(names)} names; expected as many; "
                    "mend it: cells with commas need quotes",
                )
                continue
            # An empty prompt is one; anything else that is empty is not given.
            given = zip(names, cells, strict=True)
            yield Row(first, {n: c if c or n.endswith("prompt") else None for n, c in given})


def _unclosed(line: int, error: csv.Error) -> UserError:
    """Return the error for a row without an end: how many others it has swallowed is not known.

    Were it one bad line, the pictures of all lines after it would get other numbers and seeds.
    """
    return UserError(
        f"the row that begins on line {line} does not end there ({error}); expected a second "
        "quote for each; mend it: without that the lines after it cannot be told apart"
    )


def _json_rows(path: Path, check: Check) -> Iterator[Row | BadLine]:  # noqa: ARG001
    with _opened(path) as file:
        for number, text in enumerate(_lines(file), start=1):
            if not text.strip():
                continue
            try:
                cells = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
            except json.JSONDecodeError as error:
                where = f"{error.msg}, character {error.pos + 1}"
                yield BadLine(number, f"is not JSON ({where}); expected an object; mend it")
            except (ValueError, RecursionError) as error:
                yield BadLine(number, f"is JSON that cannot be used ({error}); mend it")
            else:
                if isinstance(cells, dict):
                    yield Row(number, cells)
                else:
                    yield BadLine(
                        number, 'is no JSON object; expected such as {"prompt": "a cat"}; mend it'
                    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{quoted(name)} is there twice")
        found[name] = value
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _parquet_rows(path: Path, check: Check) -> Iterator[Row | BadLine]:
    from ldm.jobs.parquet_output import arrow

    pa, pq = arrow()
    try:
        with pq.ParquetFile(path) as file:
            check(file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                for cells in batch.to_pylist():
                    number += 1
                    yield Row(number, cells)
    except pa.ArrowException as error:
        raise UserError(
            f"it cannot be read as Parquet ({reason(error)}); expected a whole file; check it"
        ) from error


_READERS: dict[str, Callable[[Path, Check], Iterator[Row | BadLine]]] = {
    ".txt": _text_rows,
    ".csv": _csv_rows,
    ".jsonl": _json_rows,
    ".parquet": _parquet_rows,
}

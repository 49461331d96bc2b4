"""A table of runs: one CSV file, a row of settings for each run. Imports no torch."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.paths import exists
from ldm.settings.generation import GenerationSettings
from ldm.settings.language import as_typed
from ldm.settings.option import options_of
from ldm.tables import TEXT, inert


class RunLog:
    """A CSV file in UTF-8 that several processes may append to at once.

    Visitors' prompts stand in it, and people look at it in terminals and spreadsheets: characters
    that act there are written as escapes, and a text that a spreadsheet would compute gets a "'"
    before it. Bytes of a command line that are not UTF-8 stay as they are.

    Args:
        name: The file's name.
        folder: Where it is; made if missing.

    Example:
        >>> RunLog("txt2img_logs.csv").add({"prompt": "a cat", "seed": 7})   # doctest: +SKIP
    """

    def __init__(self, name: str, folder: str | Path = "logs") -> None:
        self.path = Path(folder) / name

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; new names become columns, empty in earlier rows.

        Raises:
            UserError: the file cannot be written, or is not a table.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(self.path.with_name(f".{self.path.name}.lock")):
                self._add(row)
        except (OSError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"the run cannot be logged in {self.path} ({reason}); expected a writable table of "
                "runs; move it away"
            ) from error

    def _add(self, row: Mapping[str, Any]) -> None:
        columns = self._columns()
        new = [name for name in row if name not in columns]
        if new:
            self._extend([*columns, *new])
        with open(self.path, "a+b") as file:
            _end_line(file)
        with open(self.path, "a", **TEXT) as file:
            cells = {name: inert(value) for name, value in row.items()}
            csv.DictWriter(file, [*columns, *new]).writerow(cells)

    def _columns(self) -> list[str]:
        if not exists(self.path):
            return []
        with open(self.path, **TEXT) as file:
            return next(csv.reader(file), [])

    def _extend(self, columns: list[str]) -> None:
        """Rewrite the file with more columns, atomically."""
        with replacing(self.path) as part, open(part, "w", **TEXT) as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            if exists(self.path):
                with open(self.path, **TEXT) as old:
                    writer.writerows(_rows(old))


def row_of(settings: GenerationSettings, **used: Any) -> dict[str, Any]:
    """Return a run's row: the time, every setting, and what was used for settings left open.

    Prompts stand there as they were typed, so that a row can be typed again.
    """
    values = {each.name: getattr(settings, each.name) for each in options_of(settings)}
    for name in ("prompt", "negative_prompt"):
        values[name] = as_typed(values[name], settings.originals)
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"time": now, **values, **used}


def _rows(file: IO[str]) -> Iterator[dict[str, str]]:
    rows = csv.reader(file)
    columns = next(rows, [])
    for row in rows:
        if len(row) > len(columns):
            raise csv.Error(f"line {rows.line_num} has more fields than columns")
        yield dict(zip(columns, row, strict=False))


def _end_line(file: IO[bytes]) -> None:
    """End a last line that a crash cut off."""
    if file.seek(0, os.SEEK_END) > 0:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\r\n")


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold the lock on a file while no other process does; a crash releases it as well."""
    with open(lock, "a") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file lets the next one in

"""A file of jobs, read one line after another in little memory: its pictures, and its bad lines.

Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ldm.errors import UserError
from ldm.jobs.columns import check_columns
from ldm.jobs.job import Job
from ldm.jobs.lines import LineReader
from ldm.jobs.rows import BadLine, check_file, read_rows
from ldm.paths import ERRORS, reason

SHOWN = 20
"""Bad lines that are shown."""


@dataclass(frozen=True)
class Lost:
    """What a bad line costs: the numbers of its pictures, which nobody else gets.

    Attributes:
        bad: The line.
        number: That of its first picture.
        count: How many it asks for, as far as that can be read.
    """

    bad: BadLine
    number: int
    count: int = 1


def read_jobs(path: str | Path, reader: LineReader, first: int = 0) -> Iterator[Job | Lost]:
    """Read the pictures of a file in its order.

    A line that cannot be drawn takes up numbers too: once it is mended, no other picture's number
    and no seed has changed.

    Args:
        path: A .txt, .csv, .jsonl or .parquet file.
        reader: Makes jobs of lines.
        first: The number of the first picture.

    Raises:
        UserError: The file cannot be read, or its header names what is no setting.
    """
    number = first
    for row in read_rows(path, check_columns):
        if isinstance(row, BadLine):
            yield Lost(row, number)
            number += 1
            continue
        try:
            jobs = reader.jobs(row, number)
        except UserError as error:
            count = reader.count_of(row)
            yield Lost(BadLine(row.line, str(error)), number, count)
            number += count
        else:
            for job in jobs:
                yield job
                number = job.number + 1


@dataclass
class BadLines:
    """The bad lines of a file: the first ones, and how many there are."""

    first: list[BadLine] = field(default_factory=list)
    count: int = 0

    def add(self, bad: BadLine) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(bad)

    def listed(self) -> str:
        """Return them as lines of text."""
        lines = [f"line {each.line}: {each.why}" for each in self.first]
        rest = self.count - len(self.first)
        return "\n".join([*lines, f"... and {rest} more"] if rest else lines)


@dataclass(frozen=True)
class FileState:
    """A file at one moment: its length, when it was written, and its content's SHA-256."""

    size: int
    modified: int
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> FileState:
        """Look at a file and read it.

        Raises:
            UserError: It cannot be read, or is of no known format.
        """
        check_file(path)
        digest = hashlib.sha256()
        try:
            with open(path, "rb") as file:
                there = os.fstat(file.fileno())
                while block := file.read(2**20):
                    digest.update(block)
        except ERRORS as error:
            raise UserError(
                f"JOBS {path} cannot be read ({reason(error)}); expected a file of jobs; check it"
            ) from error
        return cls(there.st_size, there.st_mtime_ns, digest.hexdigest())

    def is_still(self, path: str | Path) -> bool:
        """Return whether the file looks the same, without reading it."""
        try:
            with open(path, "rb") as file:
                there = os.fstat(file.fileno())
        except ERRORS:
            return False
        return (there.st_size, there.st_mtime_ns) == (self.size, self.modified)

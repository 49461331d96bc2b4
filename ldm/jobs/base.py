"""What every place for a run's files offers: files whole or not at all, and logs that only grow."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path

from ldm.errors import UserError
from ldm.legible import quoted

_LONGEST = 255  # bytes of a part of a name, on nearly every file system
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:*?\"<>|]")


class StoreError(UserError):
    """A place cannot be read or written: it is full, read-only, gone or out of reach.

    It ends a run, whereas an error of one picture costs that picture alone.
    """


class Unreadable(StoreError):
    """One file of a folder cannot be read, as on a damaged disk; the others may well be."""


class Draft(ABC):
    """A file in the making: written at ``path``, a local file, and seen by nobody until kept."""

    path: Path

    @abstractmethod
    def keep(self) -> None:
        """Give the file its name, whole and for good; the caller has closed it.

        Raises:
            StoreError: It cannot be; there is then nothing under that name.
        """

    @abstractmethod
    def drop(self) -> None:
        """Forget the file."""


class Log(ABC):
    """A log of lines, whose name no other writer has."""

    @abstractmethod
    def append(self, lines: Sequence[bytes]) -> None:
        """Add lines, each of which ends with a line break.

        Raises:
            StoreError: They cannot be written; what was written before stays as it was.
        """

    @abstractmethod
    def flush(self) -> None:
        """Return when all lines are durable.

        Raises:
            StoreError: They cannot be written.
        """

    def close(self) -> None:
        """Flush, and let go of the file."""
        self.flush()


class Store(ABC):
    """Files under names such as ``0000/00000012.png``; names never lead out of the place.

    It can be pickled. Threads may share one.

    Attributes:
        url: Where it is; holds no credentials.
    """

    url: str

    @abstractmethod
    def check(self) -> None:
        """Check that files can be written, leaving no trace.

        Raises:
            StoreError: They cannot.
        """

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all; it replaces one of that name and is durable then.

        Raises:
            StoreError: It cannot be written; an older one is still there.
        """

    @abstractmethod
    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Read a file, or at most ``length`` bytes of it from ``start``.

        Raises:
            FileNotFoundError: There is none.
            StoreError: It cannot be read.
        """

    @abstractmethod
    def open(self, name: str) -> BufferedReader:
        """Open a file to read and seek in; raises as ``get`` does."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Check whether there is such a file."""

    @abstractmethod
    def names(self, folder: str = "") -> Iterator[str]:
        """Yield the names of the files below a folder, such as ``manifest``, in no order.

        Files in the making and hidden ones are left out. A folder that is not there has none.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file if it is there.

        Raises:
            StoreError: It cannot be deleted.
        """

    @abstractmethod
    def draft(self, name: str) -> Draft:
        """Begin a file that is written piece by piece, such as a tar file of pictures."""

    @abstractmethod
    def log(self, stem: str) -> Log:
        """Begin a log, which must not exist; ``.jsonl`` and perhaps a number follow the stem."""


def checked_name(name: str) -> str:
    """Return a name that stays below the folder that it is relative to.

    Raises:
        StoreError: It is empty or absolute, leads upwards, is hidden, or has characters or a length
            that some file system refuses.

    Example:
        >>> checked_name("0000/00000012.png")
        '0000/00000012.png'
    """
    parts = name.split("/")
    bad = _FORBIDDEN.search(name) or any(
        not part or part.startswith(".") or len(part.encode("utf-8", "replace")) > _LONGEST
        for part in parts
    )
    if bad:
        raise StoreError(
            f"a file called {quoted(name)}; expected a name such as 0000/00000012.png, which stays "
            "in its folder; if a manifest says so, it is not one that this program wrote"
        )
    return name


def plain(text: str, longest: int = 60) -> str:
    """Return a text, such as a worker's name, as it can be a part of a file's name.

    Example:
        >>> plain("node 3/gpu:1")
        'node-3-gpu-1'
    """
    return re.sub(r"[^A-Za-z0-9_]+", "-", text)[:longest].strip("-") or "worker"

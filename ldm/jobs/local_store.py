"""A folder, on a disk or mounted (NFS), as a place for a run's files.

A file is written under a hidden name, flushed to the disk, renamed, and its folder flushed too:
what has a name is whole, even after a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from ldm.atomic import discard, part_beside, put_in_place
from ldm.jobs.base import Draft, Log, Store, StoreError, Unreadable, checked_name
from ldm.paths import ERRORS, PathLike, at_home, is_file, is_folder, reason, writing_fault
from ldm.paths import real_path as real

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)


class LocalStore(Store):
    """A folder; it is made with the first file.

    Args:
        folder: Its path.
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = at_home(folder)
        self.url = str(self.folder)
        self._made: set[Path] = set()  # folders that are known to be there and to be ours

    def check(self) -> None:
        if fault := writing_fault(self.folder):
            raise StoreError(
                f"{self.folder} {fault}; expected a folder that can be written to; give another "
                "one, or change its permissions"
            )

    def put(self, name: str, data: bytes) -> None:
        draft = self.draft(name)
        try:
            with told(draft.name):
                _write(draft.path, data)
            draft.keep()
        finally:
            draft.drop()

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        with self.open(name) as file, told(self.folder / name, "read"):
            file.seek(start)
            return file.read(-1 if length is None else length)

    def open(self, name: str) -> BufferedReader:
        path = self._path(name)
        with told(path, "read"):
            # A link in a run that somebody gave us could show any file of this machine.
            return open(path, "rb", opener=lambda name, how: os.open(name, how | _NO_LINK))

    def has(self, name: str) -> bool:
        return is_file(self._path(name))

    def names(self, folder: str = "") -> Iterator[str]:
        top = self._path(folder) if folder else self.folder
        for root, folders, names in os.walk(top, onerror=_unless_missing):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            below = Path(root).relative_to(self.folder).as_posix()
            for name in sorted(names):
                if not name.startswith("."):
                    yield name if below == "." else f"{below}/{name}"

    def remove(self, name: str) -> None:
        path = self._path(name)
        with told(path):
            path.unlink(missing_ok=True)
            if is_folder(path.parent):
                sync(path.parent)

    def draft(self, name: str) -> LocalDraft:
        return LocalDraft(self._writable(name))

    def log(self, stem: str) -> LocalLog:
        return LocalLog(self._writable(f"{stem}.jsonl"))

    def _path(self, name: str) -> Path:
        path = self.folder / checked_name(name)
        if path.parent not in self._made and not _within(path.parent, self.folder):
            raise StoreError(
                f"{path.parent} leads out of {self.folder}; expected folders, and no links to "
                "others; put the folder itself there"
            )
        return path

    def _writable(self, name: str) -> Path:
        path = self._path(name)
        if path.parent not in self._made:
            with told(path):
                _make(path.parent)
            self._made.add(path.parent)
        if is_folder(path):
            raise StoreError(
                f"{path} is a folder; expected none where a file goes; give another output folder"
            )
        return path


class LocalDraft(Draft):
    """A file with a hidden name beside its own."""

    def __init__(self, name: Path) -> None:
        self.name = name
        self.path = part_beside(name)

    def keep(self) -> None:
        with told(self.name):
            sync(self.path)
            put_in_place(self.path, self.name)
            sync(self.name.parent)

    def drop(self) -> None:
        discard(self.path)


class LocalLog(Log):
    """One file, opened so that every line goes to its end. ``append`` makes lines durable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._length = 0
        with told(path):
            kind = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | _BINARY
            self._file = os.open(path, kind, 0o666)
            sync(path.parent)

    def append(self, lines: Sequence[bytes]) -> None:
        data = b"".join(lines)
        with told(self.path):
            try:
                _write_all(self._file, data)
                os.fsync(self._file)
            except BaseException:
                # Half a line would spoil the next one; a full disk can still be shortened on.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._length)
                raise
        self._length += len(data)

    def flush(self) -> None:
        """Do nothing: ``append`` has."""

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def sync(path: Path) -> None:
    """Return when a file's bytes, or a folder's names, are on the disk.

    Raises:
        OSError: They cannot be written.
    """
    folder = is_folder(path)
    try:
        # Windows flushes only what was opened to write, and no folders.
        file = os.open(path, os.O_RDONLY if folder else os.O_RDWR | _BINARY)
    except OSError:
        if folder:
            return
        raise
    try:
        os.fsync(file)
    except OSError as error:
        if not folder or error.errno not in _NOT_SYNCED:  # some file systems have no such flush
            raise
    finally:
        os.close(file)


@contextmanager
def told(place: object, act: str = "written") -> Iterator[None]:
    """Say in one line that a file cannot be written, or read; a missing one is told as it is.

    Raises:
        FileNotFoundError: The file was to be read, and is not there.
        Unreadable: It cannot be read.
        StoreError: It cannot be written.
    """
    try:
        yield
    except FileNotFoundError as error:
        if act == "read":
            raise
        raise _refusal(place, act, error) from error
    except StoreError:
        raise
    except ERRORS as error:
        raise _refusal(place, act, error) from error


def _refusal(place: object, act: str, error: Exception) -> StoreError:
    if act == "read":
        return Unreadable(
            f"{place} cannot be read ({reason(error)}); expected a file of this run; check it"
        )
    return StoreError(
        f"{place} cannot be written ({reason(error)}); expected a folder that can be written to "
        "and has space; make room or mend it, and run again: what is recorded stays"
    )


def _write(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY, 0o666)
    try:
        _write_all(file, data)
    finally:
        os.close(file)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _make(folder: Path) -> None:
    """Make a folder and those above it, durably."""
    if is_folder(folder):
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def _within(path: Path, folder: Path) -> bool:
    return real(path).is_relative_to(real(folder))


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise StoreError(
            f"{error.filename} cannot be listed ({reason(error)}); expected a folder of this run; "
            "check its permissions"
        ) from error

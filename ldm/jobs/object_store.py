"""An object store (S3, Google Cloud Storage, Azure) as a place for a run's files, by fsspec.

An upload appears whole or not at all, and is durable when it is acknowledged. There is no
appending: a log is a row of objects, and lines that are not yet in one are lost with the process.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ldm.atomic import discard
from ldm.errors import UserError
from ldm.jobs.base import Draft, Log, Store, StoreError, checked_name

KINDS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Kinds of addresses where an upload is whole or not there."""

LINES = 1000  # of a log before they are uploaded
SECONDS = 30.0  # or this long after the first of them
_BUFFER = 2**20  # bytes
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "memory": "fsspec"}
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", re.IGNORECASE)


class ObjectStore(Store):
    """A bucket, or a folder in one. The connection is made with the first use.

    Args:
        url: Its address, without credentials; fsspec's packages find these themselves.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._opened: tuple[Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_opened": None}  # a connection belongs to its process

    def check(self) -> None:
        name = "check"
        with self._told(name) as (files, path):
            files.pipe_file(path, b"")
            files.rm_file(path)

    def put(self, name: str, data: bytes) -> None:
        with self._told(name) as (files, path):
            files.pipe_file(path, data)

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return b""
        with self._told(name, "read") as (files, path):
            return files.cat_file(
                path, start=start or None, end=None if length is None else start + length
            )

    def open(self, name: str) -> io.BufferedReader:
        with self._told(name, "read") as (files, path):
            file = files.open(path, "rb")
        return io.BufferedReader(_Reading(self, name, file), _BUFFER)

    def has(self, name: str) -> bool:
        with self._told(name, "read") as (files, path):
            return files.isfile(path)

    def names(self, folder: str = "") -> Iterator[str]:
        with self._told(folder or None, "listed") as (files, path):
            try:
                found = files.find(path)
            except FileNotFoundError:
                found = []
            root = len(path) - len(folder)
        for each in sorted(found):
            name = each[root:].lstrip("/")
            if not any(part.startswith(".") for part in name.split("/")):
                yield name

    def remove(self, name: str) -> None:
        with self._told(name) as (files, path):
            if files.isfile(path):
                files.rm_file(path)

    def draft(self, name: str) -> ObjectDraft:
        return ObjectDraft(self, name)

    def log(self, stem: str) -> ObjectLog:
        return ObjectLog(self, stem)

    def upload(self, path: Path, name: str) -> None:
        """Put a local file; raises as ``put`` does."""
        with self._told(name) as (files, target):
            files.put_file(str(path), target)

    def _files(self) -> tuple[Any, str]:
        if self._opened is None:
            self._opened = _connect(self.url)
        return self._opened

    @contextmanager
    def told(self, name: str, act: str = "read") -> Iterator[None]:
        """Put what goes wrong with a file into one line, for those that read it piece by piece."""
        with self._told(name, act):
            yield

    @contextmanager
    def _told(self, name: str | None, act: str = "written") -> Iterator[tuple[Any, str]]:
        """Yield the file system and a name's path there; put what goes wrong into one line."""
        try:
            files, root = self._files()
            yield files, root if name is None else f"{root}/{checked_name(name)}"
        except UserError:
            raise
        except FileNotFoundError as error:
            if act == "read":
                raise
            raise _refusal(self.url, name, act, error) from None
        except Exception as error:  # clients of object stores raise almost anything
            # Without its cause, which may quote a request with its signature.
            raise _refusal(self.url, name, act, error) from None


class _Reading(io.RawIOBase):
    """An open object. A network that fails while it is read is no damage of its bytes."""

    def __init__(self, store: ObjectStore, name: str, file: Any) -> None:
        self._store, self._name, self._file = store, name, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._store.told(self._name):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class ObjectDraft(Draft):
    """A file in this machine's folder for temporary files, until it is uploaded."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self.store, self.name = store, checked_name(name)
        self._folder = tempfile.mkdtemp(prefix="ldm-jobs-")
        self.path = Path(self._folder, "draft")

    def keep(self) -> None:
        try:
            self.store.upload(self.path, self.name)
        finally:
            self.drop()

    def drop(self) -> None:
        discard(Path(self._folder))


class ObjectLog(Log):
    """Lines as a row of objects: uploaded ``LINES`` at a time, or when ``SECONDS`` have passed."""

    def __init__(
        self, store: ObjectStore, stem: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store, self.stem, self._clock = store, checked_name(stem), clock
        self._lines: list[bytes] = []
        self._parts = 0
        self._since = 0.0

    def append(self, lines: Sequence[bytes]) -> None:
        if not self._lines:
            self._since = self._clock()
        self._lines += lines
        if len(self._lines) >= LINES or self._clock() - self._since >= SECONDS:
            self.flush()

    def flush(self) -> None:
        if not self._lines:
            return
        self.store.put(f"{self.stem}-{self._parts:06d}.jsonl", b"".join(self._lines))
        self._lines, self._parts = [], self._parts + 1


def _connect(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address and the path there.

    Raises:
        UserError: A package is not installed.
    """
    kind = url.split("://", 1)[0]
    try:
        import fsspec

        # Listings are never remembered: other workers write meanwhile.
        files, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        package = _PACKAGES.get(kind, "adlfs")
        extra = "" if package in ("gcsfs", "adlfs") else ', or -e ".[scale]" here'
        raise UserError(
            f"{url} needs {package}, which is not installed; expected it beside this program; "
            f"run: pip install {package}{extra}"
        ) from error
    return files, path.rstrip("/")


def _refusal(url: str, name: str | None, act: str, error: Exception) -> StoreError:
    place = f"{url}/{name}" if name else url
    text = " ".join(str(error).split()) or type(error).__name__
    return StoreError(
        f"{place} cannot be {act} ({type(error).__name__}: {_without_secrets(text)}); expected a "
        "bucket that is there and may be used; check its name, the credentials and the network"
    )


def _without_secrets(text: str) -> str:
    """Blot out what the environment holds as keys, should a client have quoted one."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET.search(name):
            text = text.replace(value, "***")
    return text

"""What shards have in common: pictures are held back until their file is whole.

A killed worker loses its open shard, and those pictures are drawn again; so a shard also ends after
some time. When one is whole its records are written first, and then it gets its name. A record
counts only if its shard is there (``Manifest.done``): whenever a worker dies, no picture is in two
shards, and none is taken for done that is in none.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ldm.jobs.base import Draft, Store
from ldm.jobs.local_store import told
from ldm.jobs.manifest import SHARDS, ManifestWriter
from ldm.jobs.records import Record
from ldm.jobs.written import Drawn, Output


@dataclass(frozen=True)
class Limits:
    """When a shard ends: at the first of these.

    Attributes:
        pictures: Pictures in it.
        size: Bytes of pictures.
        seconds: Since its first picture; the most that a killed worker has drawn in vain.
    """

    pictures: int = 1000
    size: int = 256 * 2**20
    seconds: float = 600.0


class ShardOutput(Output):
    """Writes ``shards/GENERATION-WORKER-RANDOM.ENDING``, one file at a time.

    Args:
        store: The place.
        writer: This worker's part of the manifest.
        limits: When a shard ends.
        clock: Seconds.
    """

    ending: str

    def __init__(
        self,
        store: Store,
        writer: ManifestWriter,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(store, writer)
        self.limits, self._clock = limits or Limits(), clock
        self._lock = threading.Lock()
        self._draft: Draft | None = None
        self._name = ""
        self._held: list[Record] = []
        self._size, self._since = 0, 0.0

    @abstractmethod
    def _begin(self, path: Path) -> None:
        """Open a new file."""

    @abstractmethod
    def _write(self, job: Drawn, data: bytes, parameters: str) -> int:
        """Add a picture; return where it is."""

    @abstractmethod
    def _end(self) -> None:
        """Complete the file and close it."""

    @abstractmethod
    def _let_go(self) -> None:
        """Close the file as it is, if it is open."""

    def add(
        self, job: Drawn, data: bytes, parameters: str = "", *, seconds: float = 0.0
    ) -> tuple[Record, ...]:
        with self._lock, self._told():
            if self._draft is None:
                self._open()
            offset = self._write(job, data, parameters)
            self._held.append(self._record(job, self._name, data, seconds, offset))
            self._size += len(data)
            return self._keep() if self._is_full() else ()

    def close(self) -> tuple[Record, ...]:
        with self._lock, self._told():
            return self._keep() if self._held else ()

    def abandon(self) -> None:
        with self._lock:
            self._forget()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Put what fails into one line, and drop the shard that it failed in."""
        try:
            with told(f"{self.store.url}/{SHARDS}"):
                yield
        except BaseException:
            self._forget()
            raise

    def _open(self) -> None:
        self._name = f"{SHARDS}/{self.writer.new_stem()}.{self.ending}"
        self._draft = self.store.draft(self._name)
        self._begin(self._draft.path)
        self._size, self._since = 0, self._clock()

    def _is_full(self) -> bool:
        return (
            len(self._held) >= self.limits.pictures
            or self._size >= self.limits.size
            or self._clock() - self._since >= self.limits.seconds
        )

    def _keep(self) -> tuple[Record, ...]:
        draft, records = self._draft, tuple(self._held)
        assert draft is not None
        self._end()
        self.writer.append(*records)
        self.writer.flush()
        draft.keep()
        self._draft, self._held = None, []
        return records

    def _forget(self) -> None:
        """Drop the open shard with its pictures."""
        if self._draft is not None:
            with suppress(OSError, ValueError):
                self._let_go()
            self._draft.drop()
        self._draft, self._held = None, []

"""The manifest: which pictures of a run are done. Lines are added, and never changed.

Every writer has a part of its own, ``manifest/GENERATION-WORKER-RANDOM.jsonl``, a JSON line for
each picture. No two writers share a file, so there is nothing to lock: it works on NFS, where
SQLite's locks do not, and after kill -9 at most the last line of a part is torn. Where two parts
have a record of one picture, that of the higher generation counts: a writer takes one more than the
highest that it finds. So no clock of any machine matters.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections.abc import Iterator
from io import BufferedReader
from types import TracebackType

from ldm.jobs.ahead import ahead
from ldm.jobs.base import Log, Store, plain
from ldm.jobs.records import Packing, Record, Records, from_line, to_line

__all__ = ["Manifest", "ManifestWriter", "Record", "Records"]

logger = logging.getLogger(__name__)

FOLDER = "manifest"
SHARDS = "shards"
_LONGEST_LINE = 65_536  # bytes


class Manifest:
    """All parts of the manifest in a place.

    Args:
        store: The place.
        worker: Read only what this one has written; None reads all.
    """

    def __init__(self, store: Store, worker: str | None = None) -> None:
        self.store = store
        who = "[A-Za-z0-9_-]+" if worker is None else rf"{plain(worker)}-[0-9a-f]{{12}}(?:-\d+)?"
        self._part = re.compile(rf"{FOLDER}/(\d{{5,9}})-{who}\.jsonl")

    def done(self) -> Records:
        """Return the last record of each picture; of pictures in shards, if the shard is there.

        Raises:
            StoreError: A part cannot be read.
        """
        return self.both()[0]

    def all(self) -> Records:
        """Return the last record of each picture, whether or not its shard is there.

        Raises:
            StoreError: A part cannot be read.
        """
        return self.both()[1]

    def both(self) -> tuple[Records, Records]:
        """Return what ``done`` and ``all`` return, reading the parts once.

        Raises:
            StoreError: A part cannot be read.
        """
        packing = Packing()
        # A run in an object store has thousands of parts, each of which takes a moment to come.
        for name, file in ahead(self._opened, self.parts()):
            if file is not None:
                self._read(name, file, packing)
        wanted = packing.shards()
        missing = wanted - set(self.store.names(SHARDS)) if wanted else wanted
        last = packing.records()
        return packing.records(missing) if missing else last, last

    def parts(self) -> list[str]:
        """List the parts' names, the oldest generation first."""
        found = filter(None, map(self._part.fullmatch, self.store.names(FOLDER)))
        return [match[0] for match in sorted(found, key=lambda match: (int(match[1]), match[0]))]

    def next_generation(self) -> int:
        """Return the generation after the highest one there."""
        parts = self.parts()
        return int(self._part.fullmatch(parts[-1])[1]) + 1 if parts else 0

    def _opened(self, name: str) -> tuple[str, BufferedReader | None]:
        """Open a part, with its first bytes read."""
        try:
            file = self.store.open(name)
        except FileNotFoundError:
            return name, None
        file.peek(1)
        return name, file

    def _read(self, name: str, file: BufferedReader, packing: Packing) -> None:
        damaged = 0
        with file:
            for line in _lines(file):
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("a torn line")
                    packing.add(from_line(line))
                except (ValueError, RecursionError):
                    damaged += 1
        if damaged:
            logger.warning(
                "%s/%s: left out %d of its lines, torn or damaged (a run was killed as it wrote); "
                "pictures without a record are drawn again",
                *(self.store.url, name, damaged),
            )


def _lines(file: BufferedReader) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):
        yield line


class ManifestWriter:
    """Adds records, to a part that nobody else writes to. Threads may share one.

    In a folder a record is durable when ``append`` returns. In an object store it is after
    ``ldm.jobs.object_store.LINES`` records or ``SECONDS``, or ``flush``; pictures whose records are
    lost are drawn again, to the same bytes under the same name.

    Args:
        store: The place.
        worker: Who writes; becomes a part of the name.
    """

    def __init__(self, store: Store, worker: str = "worker") -> None:
        self.store, self.worker = store, worker
        self.generation = Manifest(store).next_generation()
        self._log: Log | None = None
        self._lock = threading.Lock()

    def append(self, *records: Record) -> None:
        """Add records.

        Raises:
            StoreError: They cannot be written; none of them counts then.
        """
        lines = [to_line(record) for record in records]
        with self._lock:
            if self._log is None:  # a worker that draws nothing leaves no empty part
                self._log = self.store.log(f"{FOLDER}/{self.new_stem()}")
            self._log.append(lines)

    def new_stem(self) -> str:
        """Return a name that nobody else has given a file, without its ending."""
        return f"{self.generation:05d}-{plain(self.worker)}-{secrets.token_hex(6)}"

    def flush(self) -> None:
        """Return when every record is durable.

        Raises:
            StoreError: They cannot be written.
        """
        with self._lock:
            if self._log is not None:
                self._log.flush()

    def close(self) -> None:
        """Flush and close the part; a later ``append`` begins another one."""
        with self._lock:
            log, self._log = self._log, None
            if log is not None:
                log.close()

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

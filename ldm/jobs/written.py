"""What every output of a run offers: it takes pictures, and says which are written for good."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

from ldm.jobs.base import Store
from ldm.jobs.manifest import ManifestWriter
from ldm.jobs.records import Record
from ldm.settings.generation import Txt2ImgSettings


class Drawn(Protocol):
    """What an output asks of a job; ``ldm.jobs.job.Job`` is one."""

    @property
    def number(self) -> int:
        """Which picture of the run."""

    @property
    def digest(self) -> str:
        """SHA-256 of what the picture depends on."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Settings that are not the defaults; ``prompt`` becomes the caption."""


def caption(job: Drawn) -> str:
    """Return what a picture shows: its prompt."""
    return str(job.values.get("prompt", Txt2ImgSettings.prompt))


class Output(ABC):
    """Writes pictures, and their records when their order demands it. Threads may share one.

    Args:
        store: The place.
        writer: This worker's part of the manifest; the caller closes it.
    """

    def __init__(self, store: Store, writer: ManifestWriter) -> None:
        self.store, self.writer = store, writer

    @abstractmethod
    def add(
        self, job: Drawn, data: bytes, parameters: str = "", *, seconds: float = 0.0
    ) -> tuple[Record, ...]:
        """Take a picture.

        Args:
            job: What was drawn.
            data: A PNG file's bytes.
            parameters: The text that the file carries about how it was drawn.
            seconds: How long drawing took.

        Returns:
            The records of the pictures that are written and recorded now: this one, none as yet, or
            those of a whole shard.

        Raises:
            StoreError: The place cannot be written.
        """

    def close(self) -> tuple[Record, ...]:
        """Write what is still held back; returns and raises as ``add``."""
        self.writer.flush()
        return ()

    def abandon(self) -> None:  # noqa: B027 - a folder holds nothing back
        """Drop what is still held back; it has no records and is drawn again."""

    def _record(self, job: Drawn, name: str, data: bytes, seconds: float, offset: int) -> Record:
        return Record(
            job.number,
            job.digest,
            name,
            hashlib.sha256(data).hexdigest(),
            len(data),
            seconds=seconds,
            worker=self.writer.worker,
            offset=offset,
        )

"""A folder of pictures as a run's output: a file for each, 10,000 in a folder."""

from __future__ import annotations

from ldm.jobs.records import Record, picture_name
from ldm.jobs.written import Drawn, Output


class PictureFolder(Output):
    """A file for each picture, ``0000/00000012.png``, in folders of 10,000.

    Attributes:
        replaces: Whether there may be other pictures of the same numbers. Their records are revoked
            before their files are replaced: whoever is killed in between leaves no picture under
            the record of another.
    """

    replaces = False

    def add(
        self,
        job: Drawn,
        data: bytes,
        parameters: str = "",  # noqa: ARG002 - the PNG carries them
        *,
        seconds: float = 0.0,
    ) -> tuple[Record, ...]:
        record = self._record(job, picture_name(job.number), data, seconds, 0)
        if self.replaces and self.store.has(record.name):
            revoked = Record(job.number, "", error="is being drawn again", worker=record.worker)
            self.writer.append(revoked)
            self.writer.flush()
        self.store.put(record.name, data)
        self.writer.append(record)
        return (record,)

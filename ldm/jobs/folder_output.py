"""A folder of pictures as a run's output: a file for each, 10,000 in a folder."""

from __future__ import annotations

from ldm.jobs.records import Record, picture_name
from ldm.jobs.written import Drawn, Output


class PictureFolder(Output):
    """A file for each picture, ``0000/00000012.png``, in folders of 10,000."""

    def add(
        self,
        job: Drawn,
        data: bytes,
        parameters: str = "",  # noqa: ARG002 - the PNG carries them
        *,
        seconds: float = 0.0,
    ) -> tuple[Record, ...]:
        record = self._record(job, picture_name(job.number), data, seconds, 0)
        self.store.put(record.name, data)
        self.writer.append(record)
        return (record,)

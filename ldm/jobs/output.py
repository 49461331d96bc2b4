"""Open what a run's pictures go to: folders of 10,000, or shards to train on."""

from __future__ import annotations

from typing import Any

from ldm.errors import UserError
from ldm.jobs.base import Store
from ldm.jobs.folder_output import PictureFolder
from ldm.jobs.manifest import ManifestWriter
from ldm.jobs.written import Output
from ldm.settings.batch import OUTPUTS
from ldm.settings.option import one_of

__all__ = ["OUTPUTS", "Output", "open_output"]


def open_output(kind: str, store: Store, writer: ManifestWriter, **options: Any) -> Output:
    """Open an output by its name in ``OUTPUTS``.

    Args:
        kind: Its name.
        store: The place.
        writer: This worker's part of the manifest.
        **options: Of shards: ``limits``, see ``ldm.jobs.shard_output.ShardOutput``.

    Raises:
        UserError: There is no such kind, or a package that it needs is not installed.
    """
    if kind == "folder":
        return PictureFolder(store, writer, **options)
    if kind == "webdataset":
        from ldm.jobs.tar_output import TarOutput

        return TarOutput(store, writer, **options)
    if kind == "parquet":
        from ldm.jobs.parquet_output import ParquetOutput

        return ParquetOutput(store, writer, **options)
    raise UserError(f"format {kind!r} was given; expected {one_of(OUTPUTS)}; choose one")

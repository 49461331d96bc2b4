"""Build a retrieval database from a folder of pictures, in parts, so a stopped run can resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ldm.data.picture_set import PictureSet, in_batches
from ldm.data.retrieval import DatabaseWriter
from ldm.errors import UserError
from ldm.pipelines.clip import PictureEncoder

PER_PART = 4096  # pictures


@dataclass(frozen=True)
class Embedded:
    """The result of a run.

    Attributes:
        added: Pictures embedded now.
        there: Pictures that were in the database before.
        notice: Which pictures could not be read; None if all could.
    """

    added: int
    there: int
    notice: str | None


def embed_folder(
    images: str | Path,
    database: Path,
    encoder: PictureEncoder,
    *,
    batch_size: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Embedded:
    """Add the pictures of a folder and its subfolders to a database.

    Args:
        images: The folder.
        database: The database; created if missing, continued if this encoder made it.
        encoder: CLIP's image tower.
        batch_size: Pictures at a time.
        progress: Called with the number of pictures just done.

    Raises:
        UserError: the folder has no pictures, or the database has another encoder's embeddings.
    """
    if batch_size < 1:
        raise UserError(f"--batch_size {batch_size} was given; expected 1 or more; change it")
    pictures = PictureSet(images, "--images")
    writer = DatabaseWriter(database, encoder.embedder)
    new = [name for name in pictures.names if name not in writer.names]
    rows: list[np.ndarray] = []
    names: list[str] = []
    added = 0

    def flush() -> None:
        nonlocal added
        if names:
            writer.add(np.concatenate(rows), names)
            added += len(names)
            rows.clear()
            names.clear()

    try:
        for batch in in_batches(pictures.read(new), batch_size):
            rows.append(encoder([picture for _, picture in batch]).numpy())
            names.extend(name for name, _ in batch)
            progress(len(batch))
            if len(names) >= PER_PART:
                flush()
    finally:  # also if the user stops the run
        flush()
    there = len(pictures.names) - len(new)
    if not there:
        pictures.require_readable()
    return Embedded(added, there, pictures.notice())

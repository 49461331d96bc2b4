"""Files of a run: numbered pictures and one grid, named as the reference names them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ldm.errors import UserError
from ldm.images.grid import make_grid
from ldm.images.io import save_numbered
from ldm.pipelines.events import Picture

SAMPLES = "samples"


class OutputFolder:
    """Where a run's pictures go: ``samples/00000.png``, ... and ``grid-0000.png``.

    Numbers continue from the highest file there is, and nothing is ever replaced, also when two
    processes write into one folder. Folders are made with the first file.

    Args:
        folder: The run's ``outdir``.
        format: ``png`` or ``jpg``.
    """

    def __init__(self, folder: str | Path, format: str = "png") -> None:
        self.folder = Path(folder)
        self.format = format
        self.saved: list[Path] = []
        self.grid: Path | None = None
        self._kept: list[np.ndarray] = []
        self._next: int | None = None

    def check(self) -> None:
        """Make sure that files can be written, leaving no trace.

        Raises:
            UserError: the folder is a file, or may not be written to.
        """
        for folder in (self.folder, self.folder / SAMPLES):
            existing = folder.absolute()
            while not existing.exists() and existing != existing.parent:
                existing = existing.parent
            try:
                with tempfile.TemporaryFile(dir=existing):
                    pass
            except OSError as error:
                raise UserError(
                    f"--outdir {self.folder}: {existing} cannot be written to "
                    f"({error.strerror or error}); expected a folder; give another one"
                ) from error

    def take(self, picture: Picture, *, save: bool = True, keep: bool = False) -> None:
        """Write one picture with its parameters, and keep it for the grid.

        Args:
            picture: The picture.
            save: Write it.
            keep: Keep it.

        Raises:
            UserError: the disk refuses.
        """
        if keep:
            self._kept.append(picture.plain)
        if not save:
            return
        path, number = save_numbered(
            picture.pixels,
            self.folder / SAMPLES,
            "{:05d}.png",
            number=self._next,
            metadata=picture.parameters,
            format=self.format,
        )
        self._next = number + 1
        self.saved.append(path)

    def save_grid(self, columns: int, mark: Callable[[np.ndarray], np.ndarray]) -> None:
        """Write all kept pictures side by side.

        Args:
            columns: Pictures in a line.
            mark: Puts the watermark into the grid.

        Raises:
            UserError: the disk refuses.
        """
        grid = mark(make_grid(self._kept, columns))
        self.grid, _ = save_numbered(grid, self.folder, "grid-{:04d}.png", format=self.format)

    def summary(self) -> str:
        """Say in one line what was written and where; empty if nothing was."""
        parts = []
        if self.saved:
            first, last = self.saved[0], self.saved[-1].name
            parts.append(f"{first}" if len(self.saved) == 1 else f"{first} ... {last}")
        if self.grid:
            parts.append(str(self.grid))
        return ", ".join(parts)

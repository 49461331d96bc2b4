"""Files of a run: numbered pictures and their grids, named as ``ldm.programs.naming`` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ldm.errors import UserError
from ldm.images.grid import make_grid
from ldm.images.io import save_numbered
from ldm.paths import writing_fault
from ldm.pipelines.progress import Picture
from ldm.programs.naming import Naming, ReferenceNaming


class OutputFolder:
    """Where a run's pictures go.

    Numbers continue from the highest existing file, and nothing is ever replaced, even when two
    processes write into one folder. Folders are created with the first file.

    Args:
        folder: The run's ``outdir``.
        format: ``png`` or ``jpg``.
        naming: How files are named; by default ``samples/00000.png``, ... and
            ``grid-0000.png``.
    """

    def __init__(
        self, folder: str | Path, format: str = "png", naming: Naming | None = None
    ) -> None:
        self.folder = Path(folder)
        self.format = format
        self.naming = naming or ReferenceNaming()
        self.saved: list[Path] = []
        self.grids: list[Path] = []
        self._kept: dict[tuple[str, str], list[np.ndarray]] = {}
        self._next: dict[Path, int] = {}

    def check(self, prompts: Sequence[str] = ()) -> None:
        """Check that files can be written, leaving no trace.

        Args:
            prompts: Those of the run.

        Raises:
            UserError: a folder is a file, or is not writable.
        """
        folders = dict.fromkeys(self.folder / name for name in self.naming.folders(prompts))
        for folder in folders:
            if fault := writing_fault(folder):
                within = "" if folder == self.folder else f": {folder}"
                raise UserError(
                    f"--outdir {self.folder}{within} {fault}; expected a writable folder; give "
                    "another one"
                )

    def take(self, picture: Picture, *, save: bool = True, keep: bool = False) -> None:
        """Write one picture with its parameters, and keep it for the grid.

        Args:
            picture: The picture.
            save: Whether to write it.
            keep: Whether to keep it for the grid.

        Raises:
            UserError: a file cannot be written.
        """
        if keep:
            self._kept.setdefault(self.naming.grid(picture), []).append(picture.plain)
        if not save:
            return
        name, pattern = self.naming.single(picture)
        folder = self.folder / name
        if folder not in self._next:
            self._next[folder] = self.naming.next_number(folder)
        path, number = save_numbered(
            picture.whole,
            folder,
            pattern,
            number=self._next[folder],
            metadata=picture.parameters or None,
            format=self.format,
            synthetic=picture.drawn,
        )
        self._next[folder] = number + 1
        self.saved.append(path)

    def save_grids(self, columns: int, mark: Callable[[np.ndarray], np.ndarray]) -> None:
        """Write the kept pictures as grids, one for each folder that grids go to.

        Args:
            columns: Pictures per row.
            mark: Adds the watermark to a grid.

        Raises:
            UserError: a file cannot be written.
        """
        for (name, pattern), pictures in self._kept.items():
            grid = mark(make_grid(pictures, columns))
            path, _ = save_numbered(grid, self.folder / name, pattern, format=self.format)
            self.grids.append(path)

    def summary(self) -> str:
        """Say in one line what was written and where; empty if nothing was."""
        return ", ".join(_range(paths) for paths in (self.saved, self.grids) if paths)


def _range(paths: list[Path]) -> str:
    first, last = paths[0], paths[-1]
    if first == last:
        return str(first)
    between = " ... " if first.suffix == last.suffix else ", "  # a sheet and its table are no range
    return f"{first}{between}{last.name if first.parent == last.parent else last}"

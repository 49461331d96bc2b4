"""What a sweep leaves: its sheet and its table, filled picture by picture.

sheet-0000.png          all pictures, with the settings beside them
sheet-0000.csv          a row for each picture: its file, and what it was drawn with
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ldm.images.grid import make_grid
from ldm.images.io import next_index, save_numbered
from ldm.sweeps.drawing import Asked, columns_of, row_of
from ldm.sweeps.plan import Cell, Sweep
from ldm.sweeps.sheet import Sheet
from ldm.tables import write_table

if TYPE_CHECKING:
    from ldm.pipelines.progress import Picture

NAMES = "sheet-{:04d}.png"


class Results:
    """The sheet and the table of a sweep that is being drawn.

    Args:
        sweep: What is drawn.
        asked: Its cells, as ``requests_of`` returned them.
        columns: Pictures per row of the small grid that a cell with several pictures shows.
        letters: Height of the labels' letters in pixels; None suits the pictures.
        with_sheet: Whether there is to be a sheet.

    Attributes:
        sheet: The sheet so far; None without one.
    """

    def __init__(
        self,
        sweep: Sweep,
        asked: Sequence[Asked],
        columns: int = 1,
        letters: int | None = None,
        *,
        with_sheet: bool = True,
    ) -> None:
        self.sweep, self.columns = sweep, columns
        self.sheet = Sheet(sweep, _size_of(asked, columns), letters) if with_sheet else None
        self._rows: list[tuple[tuple[int, int, int], Mapping[str, object]]] = []

    @property
    def notices(self) -> Sequence[str]:
        """What is to be said about the sheet."""
        return () if self.sheet is None else self.sheet.notices

    @property
    def columns_of_table(self) -> list[str]:
        """The table's columns."""
        return columns_of(self.sweep)

    @property
    def rows(self) -> list[Mapping[str, object]]:
        """The table so far, in the order of the sheet."""
        return [row for _, row in sorted(self._rows, key=lambda each: each[0][::-1])]

    def note(self, cell: Cell, picture: Picture, file: str = "") -> None:
        """Add a picture to the table.

        Args:
            cell: Its cell.
            picture: The picture.
            file: Where it was written, "" if it was not.
        """
        self._rows.append((cell.place, row_of(self.sweep, cell, picture, file)))

    def show(self, cell: Cell, pictures: Sequence[Picture]) -> None:
        """Put a cell's pictures on the sheet."""
        if self.sheet is not None:
            self.sheet.put(cell.place, make_grid([each.plain for each in pictures], self.columns))

    def write(self, folder: Path, format: str, watermark: str) -> list[Path]:
        """Write the sheet and the table beside each other; return their files.

        Args:
            folder: Where to.
            format: The sheet's, ``png`` or ``jpg``.
            watermark: As the setting of that name.

        Raises:
            UserError: A file cannot be written.
        """
        written = []
        if self.sheet is None:
            table = folder / NAMES.format(next_index(folder, NAMES))
        else:
            from ldm.pipelines.postprocess import Watermark

            mark = Watermark.of(watermark, format)
            table, _ = save_numbered(mark(self.sheet.pixels), folder, NAMES, format=format)
            written.append(table)
        table = table.with_suffix(".csv")
        write_table(table, self.columns_of_table, self.rows)
        return [*written, table]


def _size_of(asked: Sequence[Asked], columns: int) -> tuple[int, int]:
    """Return height and width of the largest cell: a picture, or the small grid of several."""
    shapes = {_shape_of(each, columns) for each in asked}
    return max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)


def _shape_of(asked: Asked, columns: int) -> tuple[int, ...]:
    blank = np.zeros((*asked.request.shown_size, 1), np.uint8)
    return make_grid([blank] * asked.request.pictures, columns).shape

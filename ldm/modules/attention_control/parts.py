"""Which part of a map the present call of the model sees, where a large one is worked on in parts.

Who works in parts says it here; adapters that know something of each place of the picture, such as
a ControlNet with its drawing, ask. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Part(NamedTuple):
    """A part of a map.

    Attributes:
        rows: From which row to which, in latent elements.
        columns: From which column to which.
        height: Rows of the whole map.
        width: Its columns.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    height: int
    width: int

    def scaled(self, rate: int) -> tuple[slice, slice]:
        """Return the rows and columns that it has in a picture of the whole.

        Args:
            rate: Pixels of that picture along one element of the map.
        """
        rows, columns = ((start * rate, stop * rate) for start, stop in (self.rows, self.columns))
        return slice(*rows), slice(*columns)


_PRESENT: ContextVar[Part | None] = ContextVar("part_of_map", default=None)


@contextmanager
def seeing(part: Part) -> Iterator[None]:
    """Say that inside the block the model sees this part only."""
    token = _PRESENT.set(part)
    try:
        yield
    finally:
        _PRESENT.reset(token)


def part_of_call() -> Part | None:
    """Return the part that the present call sees; None is the whole."""
    return _PRESENT.get()

"""How far each reader of an endless stream has come: the workers read it, checkpoints keep it.

A reader is a loader's worker, or the process itself where it has none. Workers read ahead, so what
they have read says nothing: every sample carries its place, and the places of the batches that
were trained on are noted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch import Tensor

PLACE = "place_"
"""The entry of an item that holds its place: reader, pass, and samples of the pass so far."""


def place_of(reader: int, number: int, seen: int) -> str:
    """Write a place; a text, for texts stay on the host when a batch goes to a device.

    Example:
        >>> place_of(1, 0, 12)
        '1/0/12'
    """
    return f"{reader}/{number}/{seen}"


class StreamPlaces:
    """The places of one process's readers, in memory that its workers share.

    A loader asks its workers in turn, from the first one on. A resumed loader's first worker
    therefore stands in for the reader whose turn it is.

    Args:
        readers: How many there are, 1 or more.
        begun_at: Samples that the run had seen where the stream's present order begins.
        repeats: Whether the stream goes on after a pass by itself.
    """

    def __init__(self, readers: int, *, begun_at: int = 0, repeats: bool = True):
        self.readers, self.repeats = readers, repeats
        # A row for each reader: pass, samples of it; the last: whose turn it is, begun_at.
        self._held = torch.zeros(readers + 1, 2, dtype=torch.int64)
        self._held[-1, 1] = begun_at
        self._noted = torch.zeros(1, dtype=torch.bool)
        with contextlib.suppress(RuntimeError):  # no shared memory: workers see it as they start
            self._held.share_memory_()
            self._noted.share_memory_()

    @property
    def begun_at(self) -> int:
        """Samples that the run had seen where the present order begins."""
        return int(self._held[-1, 1])

    def start_of(self, worker: int) -> tuple[int, int, int]:
        """Return the reader that a worker stands in for, its pass, and the samples seen of it.

        Where a stream does not repeat, it is asked for a pass once the one before is over. Nothing
        was noted then if a resumed run has just begun, and asks a second time.
        """
        if not self.repeats and bool(self._noted):
            return worker, self._next_pass, 0
        reader = (worker + int(self._held[-1, 0])) % self.readers
        number, seen = self._held[reader].tolist()
        return reader, number, seen

    def note(self, places: Sequence[str]) -> None:
        """Note a batch that was used; all of it is one reader's."""
        reader, number, seen = map(int, places[-1].split("/"))
        self._held[reader, 0], self._held[reader, 1] = number, seen
        self._held[-1, 0] = (reader + 1) % self.readers
        self._noted[0] = True

    def saved(self, *, epoch_ended: bool) -> Tensor:
        """Return what a checkpoint keeps, (readers + 1, 2).

        Args:
            epoch_ended: Whether the last batch was an epoch's last; a stream that does not repeat
                then begins another pass.
        """
        held = self._held.clone()
        if epoch_ended and not self.repeats:
            held[:-1, 0] = self._next_pass
            held[:-1, 1] = held[-1, 0] = 0
        return held

    @property
    def _next_pass(self) -> int:
        # A reader without a sample in this pass has none noted.
        return int(self._held[:-1, 0].max()) + 1

    def restore(self, saved: Sequence[Sequence[int]]) -> None:
        """Go on from the numbers that ``saved`` returned."""
        self._held.copy_(torch.tensor(saved))

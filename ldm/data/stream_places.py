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
    """The places of one process's readers.

    A loader asks its workers in turn, from the first one on. A resumed loader's first worker
    therefore stands in for the reader whose turn it is.

    Workers start while batches are noted already: what they begin with is what was noted when they
    were made, of which each has a copy of its own. Those that stay for another epoch look into
    memory that is shared; the loader waits for them then.

    Args:
        readers: How many there are, 1 or more.
        begun_at: Samples that the run had seen where the stream's present order begins.
        repeats: Whether the stream goes on after a pass by itself.
    """

    def __init__(self, readers: int, *, begun_at: int = 0, repeats: bool = True):
        self.readers, self.repeats = readers, repeats
        # A row for each reader: pass, samples of it; the last: whose turn it is, begun_at.
        self._held = [[0, 0] for _ in range(readers)] + [[0, begun_at]]
        self._noted = self._asked = False
        self._shared = torch.tensor([*self._held, [0, 0]])  # the last row: whether any was noted
        with contextlib.suppress(RuntimeError):  # no shared memory: workers see it as they start
            self._shared.share_memory_()

    @property
    def begun_at(self) -> int:
        """Samples that the run had seen where the present order begins."""
        return self._held[-1][1]

    def start_of(self, worker: int) -> tuple[int, int, int]:
        """Return the reader that a worker stands in for, its pass, and the samples seen of it.

        Where a stream does not repeat, it is asked for a pass once the one before is over. Nothing
        was noted then if a resumed run has just begun, and asks a second time.
        """
        if self._asked:
            *self._held, (noted, _) = self._shared.tolist()
            self._noted = bool(noted)
        self._asked = True
        if not self.repeats and self._noted:
            return worker, self._next_pass, 0
        reader = (worker + self._held[-1][0]) % self.readers
        number, seen = self._held[reader]
        return reader, number, seen

    def note(self, places: Sequence[str]) -> None:
        """Note a batch that was used; all of it is one reader's."""
        reader, number, seen = map(int, places[-1].split("/"))
        self._held[reader] = [number, seen]
        self._held[-1][0] = (reader + 1) % self.readers
        self._noted = True
        self._share()

    def saved(self, *, epoch_ended: bool) -> Tensor:
        """Return what a checkpoint keeps, (readers + 1, 2).

        Args:
            epoch_ended: Whether the last batch was an epoch's last; a stream that does not repeat
                then begins another pass.
        """
        held = torch.tensor(self._held)
        if epoch_ended and not self.repeats:
            held[:-1, 0] = self._next_pass
            held[:-1, 1] = held[-1, 0] = 0
        return held

    @property
    def _next_pass(self) -> int:
        # A reader without a sample in this pass has none noted.
        return max(number for number, _ in self._held[:-1]) + 1

    def _share(self) -> None:
        self._shared.copy_(torch.tensor([*self._held, [int(self._noted), 0]]))

    def restore(self, saved: Sequence[Sequence[int]]) -> None:
        """Go on from the numbers that ``saved`` returned."""
        self._held = [[int(number) for number in row] for row in saved]
        self._share()

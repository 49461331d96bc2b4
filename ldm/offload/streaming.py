"""Stream the UNet layer by layer through two slots of device memory.

While a layer computes from one slot, the next is copied into the other:

    slot A   | time_embed |         | input_blocks.1.0 |                  | input_blocks.2.0 | ...
    slot B                | input_blocks.0.0 |         | input_blocks.1.1 |

The slots have the size of the largest streamed layer and are allocated once, so nothing is
allocated between two steps. A layer can compute the rows of a batch in turns, so that it is
brought once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from ldm.offload.movers import Mover
from ldm.offload.pieces import Piece
from ldm.offload.rows import in_rows
from ldm.offload.stages import Ledger
from ldm.wrapping import Wrapping

SLOTS = 2


class _Slot:
    """Memory for one layer at a time.

    Attributes:
        layer: Number of the layer whose weights are in it or on their way, None if it is free.
        ready: What to wait for before computing with them.
        free: Marker in the computation after which the memory may be overwritten.
    """

    def __init__(self, room: Tensor, free: Any):
        self.layer: int | None = None
        self.ready: Any = None
        self.free = free
        self._room = room
        self._copies: dict[int, list[Tensor]] = {}

    def room_for(self, piece: Piece) -> Tensor:
        """Return the memory for a piece, bytes (nbytes,)."""
        return self._room[: piece.nbytes]

    def copies(self, number: int, piece: Piece) -> list[Tensor]:
        """Return the tensors of layer ``number`` in this slot."""
        if number not in self._copies:
            self._copies[number] = piece.copies(self.room_for(piece))
        return self._copies[number]


class Streamer:
    """Brings the UNet's layers to the device when they compute.

    Args:
        halves: The weights of the layers of each half, in the order in which they compute.
        layers: The layers by the same names.
        resident: Names of the layers that stay while the streamer is open.
        mover: Moves the weights.
        ledger: Records which layers are on the device.
    """

    def __init__(
        self,
        halves: Sequence[Iterable[Piece]],
        layers: Mapping[str, nn.Module],
        *,
        resident: frozenset[str],
        mover: Mover,
        ledger: Ledger,
    ):
        weighty = [[piece for piece in half if piece.nbytes] for half in halves]
        travellers = [[p for p in half if p.name not in resident] for half in weighty]
        self._residents = [p for half in weighty for p in half if p.name in resident]
        self._travellers = [piece for half in travellers for piece in half]
        self._seam = len(travellers[0])
        self._crosses = True
        self._layers = layers
        self._rows: int | None = None
        self._mover, self._ledger = mover, ledger
        self._slots: list[_Slot] = []
        self._rooms: list[Tensor] = []
        self._wrapping = Wrapping()

    def attach(self) -> None:
        """Wrap the layers."""
        for piece in self._residents:
            self._wrapping.put(self._layers[piece.name], "forward", self._stay)
        for number, piece in enumerate(self._travellers):
            self._wrapping.put(self._layers[piece.name], "forward", partial(self._pass, number))

    def detach(self) -> None:
        """Unwrap the layers."""
        self.close()
        self._wrapping.undo()

    def take_turns(self, rows: int | None, *, inside: bool) -> None:
        """Set how the rows of a batch take turns from now on.

        Args:
            rows: Rows at a time; None for all.
            inside: Turns are taken inside every layer; else each half runs once per turn, and
                prefetches no layer of the other half.
        """
        self._rows = rows if inside else None
        self._crosses = inside or rows is None

    def open(self) -> None:
        """Allocate the slots and bring the resident layers; does nothing if already open."""
        if self._slots:
            return
        for piece in self._residents:
            if self._mover.moves:
                room = self._mover.room(piece.nbytes)
                self._rooms.append(room)
                self._mover.fetch(piece, room)
                piece.show(piece.copies(room))
            self._ledger.load(piece.name, piece.nbytes)
        largest = max((piece.nbytes for piece in self._travellers), default=0)
        rooms = [self._mover.room(largest) for _ in range(SLOTS)]
        # The memory may have had another use that the computation has not finished.
        free = self._mover.mark()
        self._slots = [_Slot(room, free) for room in rooms]

    def rest(self) -> None:
        """Discard what was prefetched; the slots stay."""
        for slot in self._slots:
            self._vacate(slot)

    def close(self) -> None:
        """Point all layers at the host again and free the slots."""
        for piece in [*self._residents, *self._travellers]:
            piece.go_home()
            self._ledger.unload(piece.name)
        # Copies that are still running write into memory that is about to be freed.
        self._mover.join()
        self._slots.clear()
        self._rooms.clear()

    def _stay(self, own: Callable, x: Tensor, *args: Any) -> Tensor:
        """Compute a resident layer."""
        return in_rows(own, self._rows, x, *args)

    def _pass(self, number: int, own: Callable, x: Tensor, *args: Any) -> Tensor:
        """Compute a streamed layer while it is on the device."""
        if not self._slots:
            return own(x, *args)
        with self._present(number):
            return in_rows(own, self._rows, x, *args)

    @contextmanager
    def _present(self, number: int) -> Iterator[None]:
        """Keep a layer on the device inside the block, with the next one on its way."""
        piece = self._travellers[number]
        slot = self._slot_of(number) or self._send(number, self._free_slot() or self._slots[0])
        self._mover.wait(slot.ready)
        piece.show(slot.copies(number, piece))
        self._send_ahead(number + 1)
        yield
        piece.go_home()
        slot.free = self._mover.mark()
        self._vacate(slot)
        # Now, not when the next layer is needed: resident layers may compute before it.
        self._send_ahead(number + 1)

    def _send_ahead(self, number: int) -> None:
        """Prefetch layers from ``number`` on into the free slots."""
        stop = len(self._travellers) if self._crosses or number > self._seam else self._seam
        waiting = (n for n in range(number, stop) if self._slot_of(n) is None)
        for slot in self._slots:
            if slot.layer is None and (following := next(waiting, None)) is not None:
                self._send(following, slot)

    def _free_slot(self) -> _Slot | None:
        return next((slot for slot in self._slots if slot.layer is None), None)

    def _slot_of(self, number: int) -> _Slot | None:
        return next((slot for slot in self._slots if slot.layer == number), None)

    def _send(self, number: int, slot: _Slot) -> _Slot:
        """Copy a layer into a slot, replacing what may be there."""
        self._vacate(slot)
        piece = self._travellers[number]
        slot.ready = self._mover.prefetch(piece, slot.room_for(piece), slot.free)
        slot.layer = number
        self._ledger.load(piece.name, piece.nbytes)
        return slot

    def _vacate(self, slot: _Slot) -> None:
        if slot.layer is not None:
            self._ledger.unload(self._travellers[slot.layer].name)
            slot.layer = None

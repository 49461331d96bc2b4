"""How weights reach a device: at once, or on CUDA beside the computation.

    compute stream   ... layer 3 ......... | layer 4 ......... | layer 5
    copy stream      | layer 4 -> slot A   | layer 5 -> slot B   (B: when layer 3 has been read)

Two rules keep that right: a layer computes when its copy has arrived, and a copy begins when the
layer that was in its slot has computed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.offload.pieces import Piece

logger = logging.getLogger(__name__)

CHUNK = 2**28
"""Bytes of pinned memory asked for at a time: torch rounds a request up to a power of two."""


class Mover:
    """Brings weights to a device, each copy done when the call returns.

    Args:
        device: Where to.
        moves: Whether the device has a memory of its own; by default unless it is the CPU.
    """

    def __init__(self, device: torch.device, *, moves: bool | None = None):
        self.device = device
        self.moves = device.type != "cpu" if moves is None else moves

    def settle(self, pieces: Iterable[Piece]) -> None:
        """Prepare the host's side of pieces, once."""

    def room(self, nbytes: int) -> Tensor:
        """Return new memory of the device, bytes (nbytes,)."""
        # Memory from inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            return torch.empty(nbytes, dtype=torch.uint8, device=self.device)

    def fetch(self, piece: Piece, room: Tensor) -> None:
        """Copy a piece into ``room``, bytes (nbytes,), before what is computed next."""
        piece.copy_to(room)

    def prefetch(self, piece: Piece, room: Tensor, after: Any) -> Any:  # noqa: ARG002
        """Copy a piece into ``room``, beside the computation where the device can.

        Args:
            piece: What to copy.
            room: Where to, bytes (nbytes,).
            after: What ``mark`` returned once the last reader of ``room`` was under way.

        Returns:
            What to ``wait`` for before computing with the copy.
        """
        piece.copy_to(room)

    def mark(self) -> Any:
        """Return a point in the computation: all that was asked for up to now."""

    def wait(self, arrival: Any) -> None:
        """Let what is computed next begin after a prefetch has arrived."""

    def join(self) -> None:
        """Let what is computed next begin after every prefetch: its memory may then be freed."""

    def trim(self) -> None:
        """Give memory that is free back to the device."""


class CudaMover(Mover):
    """Brings weights to a CUDA device from pinned memory, prefetching on a stream of its own."""

    def __init__(self, device: torch.device):
        super().__init__(device)
        self._copies = torch.cuda.Stream(device)

    def settle(self, pieces: Iterable[Piece]) -> None:
        """Move the host's tensors into pinned memory, unless they are there."""
        gather(pieces, _pinned, Tensor.is_pinned)

    def fetch(self, piece: Piece, room: Tensor) -> None:
        """Copy on the stream that computes, without waiting."""
        piece.copy_to(room, non_blocking=True)

    def prefetch(self, piece: Piece, room: Tensor, after: Any) -> torch.cuda.Event:
        """Copy on the stream for copies, see ``Mover.prefetch``."""
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(after)
            piece.copy_to(room, non_blocking=True)
            return self._copies.record_event()

    def mark(self) -> torch.cuda.Event:
        """Return an event on the stream that computes."""
        return torch.cuda.current_stream(self.device).record_event()

    def wait(self, arrival: torch.cuda.Event) -> None:
        """Let the stream that computes wait for a prefetch."""
        torch.cuda.current_stream(self.device).wait_event(arrival)

    def join(self) -> None:
        """Let the stream that computes wait for all prefetches."""
        torch.cuda.current_stream(self.device).wait_stream(self._copies)

    def trim(self) -> None:
        """Give the memory that torch keeps for later back to the device."""
        torch.cuda.empty_cache()


def gather(
    pieces: Iterable[Piece], make: Callable[[int], Tensor], suits: Callable[[Tensor], bool]
) -> None:
    """Move the host's tensors of each piece into one buffer, from which one copy fetches all.

    Args:
        pieces: What to move; what an earlier call left in buffers that suit stays there.
        make: Returns new memory of the host, bytes (nbytes,), for several pieces.
        suits: Tells whether memory is of the right kind.
    """
    loose = []
    for piece in pieces:
        flat = piece.find_flat()
        if flat is not None and suits(flat):
            piece.settle(flat)
        else:
            loose.append(piece)
    places, sizes = pack([piece.nbytes for piece in loose])
    # Chunk by chunk: what is moved leaves its old memory before more is asked for.
    for number, size in enumerate(sizes):
        chunk = make(size)
        for piece, (where, start) in zip(loose, places, strict=True):
            if where == number:
                piece.settle(chunk[start : start + piece.nbytes])


def pack(sizes: Sequence[int], chunk: int = CHUNK) -> tuple[list[tuple[int, int]], list[int]]:
    """Lay blocks into chunks: the largest first, each where it fits first.

    Args:
        sizes: Of the blocks.
        chunk: Size of a chunk; a larger block gets one of its own, a power of two.

    Returns:
        The chunk and the place in it of each block, and the size of each chunk.
    """
    places, chunks, used = [(0, 0)] * len(sizes), [], []
    for block in sorted(range(len(sizes)), key=lambda block: -sizes[block]):
        size = sizes[block]
        room = (n for n, taken in enumerate(used) if taken + size <= chunks[n])
        found = next(room, len(chunks))
        if found == len(chunks):
            chunks.append(max(chunk, 1 << (size - 1).bit_length()))
            used.append(0)
        places[block] = (found, used[found])
        used[found] += size
    return places, chunks


def _pinned(nbytes: int) -> Tensor:
    """Return memory of the host that a device can read by itself, bytes (nbytes,)."""
    try:
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        logger.warning(
            "the system pins no %d MiB of memory (%s): weights move more slowly",
            nbytes // 2**20,
            error,
        )
        return torch.empty(nbytes, dtype=torch.uint8)


def mover_for(device: torch.device) -> Mover:
    """Return what moves weights to ``device``."""
    return CudaMover(device) if device.type == "cuda" else Mover(device)

"""Copy weights to a device: synchronously, or on CUDA in parallel with the computation.

    compute stream   ... layer 3 ......... | layer 4 ......... | layer 5
    copy stream      | layer 4 -> slot A   | layer 5 -> slot B   (B: once layer 3 has computed)

Two rules keep this correct: a layer computes only after its copy has arrived, and a copy begins
only after the layer in its slot has computed.
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
"""Bytes of pinned memory per allocation: torch rounds a request up to a power of two."""


class Mover:
    """Copies weights to a device; each copy is complete when the call returns.

    Args:
        device: The device to copy to.
        moves: Whether the device has its own memory; by default true unless it is the CPU.
    """

    def __init__(self, device: torch.device, *, moves: bool | None = None):
        self.device = device
        self.moves = device.type != "cpu" if moves is None else moves

    def settle(self, pieces: Iterable[Piece]) -> None:
        """Prepare the host tensors of pieces, once."""

    def room(self, nbytes: int) -> Tensor:
        """Return new memory on the device, bytes (nbytes,)."""
        # Memory from inference mode could not be written to outside of it.
        with torch.inference_mode(False):
            return torch.empty(nbytes, dtype=torch.uint8, device=self.device)

    def fetch(self, piece: Piece, room: Tensor) -> None:
        """Copy a piece into ``room``, bytes (nbytes,), before the next computation."""
        piece.copy_to(room)

    def prefetch(self, piece: Piece, room: Tensor, after: Any) -> Any:  # noqa: ARG002
        """Copy a piece into ``room``, in parallel with the computation if the device can.

        Args:
            piece: What to copy.
            room: Destination, bytes (nbytes,).
            after: The ``mark`` taken after the last use of ``room`` was queued.

        Returns:
            What to pass to ``wait`` before computing with the copy.
        """
        piece.copy_to(room)

    def mark(self) -> Any:
        """Return a marker in the computation, after everything queued so far."""

    def wait(self, arrival: Any) -> None:
        """Make the next computation wait until a prefetch has arrived."""

    def join(self) -> None:
        """Make the next computation wait for all prefetches: their memory may then be freed."""

    def trim(self) -> None:
        """Return free memory to the device."""


class CudaMover(Mover):
    """Copies weights to a CUDA device from pinned memory, and prefetches on a separate stream."""

    def __init__(self, device: torch.device):
        super().__init__(device)
        self._copies = torch.cuda.Stream(device)

    def settle(self, pieces: Iterable[Piece]) -> None:
        """Move the host tensors into pinned memory, unless they are there already."""
        gather(pieces, _pinned, Tensor.is_pinned)

    def fetch(self, piece: Piece, room: Tensor) -> None:
        """Copy on the compute stream, without waiting."""
        piece.copy_to(room, non_blocking=True)

    def prefetch(self, piece: Piece, room: Tensor, after: Any) -> torch.cuda.Event:
        """Copy on the copy stream; see ``Mover.prefetch``."""
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(after)
            piece.copy_to(room, non_blocking=True)
            return self._copies.record_event()

    def mark(self) -> torch.cuda.Event:
        """Return an event on the compute stream."""
        return torch.cuda.current_stream(self.device).record_event()

    def wait(self, arrival: torch.cuda.Event) -> None:
        """Make the compute stream wait for a prefetch."""
        torch.cuda.current_stream(self.device).wait_event(arrival)

    def join(self) -> None:
        """Make the compute stream wait for all prefetches."""
        torch.cuda.current_stream(self.device).wait_stream(self._copies)

    def trim(self) -> None:
        """Return the memory that torch caches to the device."""
        torch.cuda.empty_cache()


def gather(
    pieces: Iterable[Piece], make: Callable[[int], Tensor], suits: Callable[[Tensor], bool]
) -> None:
    """Move the host tensors of each piece into one buffer, so that one copy transfers them all.

    Args:
        pieces: What to move; pieces that an earlier call left in suitable buffers stay there.
        make: Returns new host memory, bytes (nbytes,), for several pieces.
        suits: Checks whether memory is of the right kind.
    """
    loose = []
    for piece in pieces:
        flat = piece.find_flat()
        if flat is not None and suits(flat):
            piece.settle(flat)
        else:
            loose.append(piece)
    places, sizes = pack([piece.nbytes for piece in loose])
    # Chunk by chunk, so that old memory is freed before the next chunk is allocated.
    for number, size in enumerate(sizes):
        chunk = make(size)
        for piece, (where, start) in zip(loose, places, strict=True):
            if where == number:
                piece.settle(chunk[start : start + piece.nbytes])


def pack(sizes: Sequence[int], chunk: int = CHUNK) -> tuple[list[tuple[int, int]], list[int]]:
    """Pack blocks into chunks, largest first, each into the first chunk with room for it.

    Args:
        sizes: Sizes of the blocks.
        chunk: Size of a chunk; a larger block gets its own chunk, with a power of two as its size.

    Returns:
        The chunk of each block and its offset in it, and the size of each chunk.
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
    """Return pinned host memory, which a device can read directly, bytes (nbytes,)."""
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
    """Return the mover for ``device``."""
    return CudaMover(device) if device.type == "cuda" else Mover(device)

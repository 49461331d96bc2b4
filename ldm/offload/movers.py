"""How weights reach a device: at once, or on CUDA beside the computation.

    compute stream   ... layer 3 ......... | layer 4 ......... | layer 5
    copy stream      | layer 4 -> slot A   | layer 5 -> slot B   (B: when layer 3 has been read)

Two rules keep that right: a layer computes when its copy has arrived, and a copy begins when the
layer that was in its slot has computed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ldm.offload.pieces import Piece

logger = logging.getLogger(__name__)

CHUNK = 2**27
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
        loose = [piece for piece in pieces if not self._is_settled(piece)]
        chunk, used = torch.empty(0, dtype=torch.uint8), 0
        for piece in sorted(loose, key=lambda piece: -piece.nbytes):
            if used + piece.nbytes > chunk.nbytes:
                chunk, used = _pinned(max(CHUNK, piece.nbytes)), 0
            piece.settle(chunk[used : used + piece.nbytes])
            used += piece.nbytes

    def _is_settled(self, piece: Piece) -> bool:
        flat = piece.find_flat()
        if flat is None or not flat.is_pinned():
            return False
        piece.settle(flat)
        return True

    def prefetch(self, piece: Piece, room: Tensor, after: Any) -> torch.cuda.Event:
        """Copy on the stream for copies, see ``Mover.prefetch``."""
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(after)
            piece.copy_to(room)
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

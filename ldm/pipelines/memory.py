"""Running out of memory, told as what a user can change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from ldm.errors import UserError

# CUDA has an exception of its own; CPU allocators, MPS and cuBLAS only have words for it.
_REFUSALS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


@contextlib.contextmanager
def memory_for(what: str, device: torch.device, advice: str) -> Iterator[None]:
    """Turn a refusal of memory inside the ``with`` block into a ``UserError``.

    Args:
        what: What needs the memory, in the plural.
        device: Whose memory it is.
        advice: What the user can do.

    Raises:
        UserError: there was not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_refusal(error):
            raise
        raise UserError(
            f"{what} do not fit into the memory of {device}; expected less; {advice}"
        ) from error


def is_refusal(error: Exception) -> bool:
    """Tell whether an error is an allocator's refusal."""
    named = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return named or any(text in str(error) for text in _REFUSALS)

"""What the phases of a run have to reckon with: precision, memory, and results of no use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor

from ldm.errors import UserError

Result = TypeVar("Result")
Phase = Literal["encode", "walk", "decode"]
"""The init image to latents; prompts and sampler steps; latents to pictures."""

# A decoded value of -1 is byte 0; below this one every byte of a picture is.
DARKEST_SHOWN = -1.0 + 2.0 / 255.0


def half_of(device: torch.device) -> torch.dtype | None:
    """Return the half precision that a device computes in; None where it has float32 alone.

    The reference's autocast is float16 on CUDA; CPUs and MPS run float32.
    """
    return torch.float16 if device.type == "cuda" else None


def is_finite(x: Tensor) -> bool:
    """Tell whether every value is a number."""
    return bool(x.isfinite().all())


def is_not_black(decoded: Tensor) -> bool:
    """Tell whether decoded pictures (B, 3, H, W) are all finite and none is black all over."""
    return is_finite(decoded) and bool((decoded.flatten(1).amax(1) >= DARKEST_SHOWN).all())


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

"""What every phase of a run deals with: precision, lack of memory, unusable results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from ldm.errors import UserError, is_out_of_memory

Result = TypeVar("Result")
Phase = Literal["encode", "walk", "decode"]
"""The init image to latents; prompts and sampler steps; latents to pictures."""

# A decoded value of -1 is byte 0; a picture with every value below this one is all zero bytes.
DARKEST_SHOWN = -1.0 + 2.0 / 255.0


def half_of(device: torch.device, precision: str = "autocast") -> torch.dtype | None:
    """Return the half-precision type that a device computes in; None if it uses float32 only.

    The reference's autocast is float16 on CUDA; CPUs and MPS run float32.

    Args:
        device: Where it is computed.
        precision: A value of ``--precision`` but ``auto``, for which see
            ``ldm.pipelines.precision.settled``.

    Raises:
        ValueError: It is ``auto``.
    """
    if precision == "auto":
        raise ValueError("auto has to be settled first; see ldm.pipelines.precision.settled")
    if precision in ("bfloat16", "float16"):
        return getattr(torch, precision)
    return torch.float16 if precision == "autocast" and device.type == "cuda" else None


def is_finite(x: Tensor) -> bool:
    """Return whether every value is finite."""
    return bool(x.isfinite().all())


def way_out(model: nn.Module, half: torch.dtype | None) -> str:
    """Say what can be done about results that are not finite.

    Args:
        model: What computed them.
        half: The half precision that it computed in; None if float32 was tried.
    """
    for name, weight in model.named_parameters():
        if not is_finite(weight):
            return f"the checkpoint's weights hold NaN or infinity ({name}); download it again"
    if half is not None:
        return "half precision cannot hold them all; run again with --precision full"
    return (
        "the weights are finite and float32 was used, so check that the configuration belongs to "
        "the checkpoint, or lower the guidance scale"
    )


def is_not_black(decoded: Tensor) -> bool:
    """Return whether decoded pictures (B, 3, H, W) are all finite and none is entirely black."""
    return is_finite(decoded) and bool((decoded.flatten(1).amax(1) >= DARKEST_SHOWN).all())


# CUDA raises its own exception type; CPU allocators, MPS and cuBLAS only say so in the message.
_REFUSALS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


@contextlib.contextmanager
def memory_for(what: str, device: torch.device, advice: str) -> Iterator[None]:
    """Turn an out-of-memory error inside the ``with`` block into a ``UserError``.

    Args:
        what: What needs the memory, in the plural.
        device: The device whose memory is used.
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
            f"{what} do not fit into the memory of {device}; expected something smaller; {advice}"
        ) from error


def is_refusal(error: Exception) -> bool:
    """Return whether an error means that memory ran out."""
    named = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return named or any(text in str(error) for text in _REFUSALS)


def lacked_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised from, means that memory ran out."""
    while error is not None:
        if isinstance(error, Exception) and (is_refusal(error) or is_out_of_memory(error)):
            return True
        error = error.__cause__
    return False

"""Weights that are stored as small numbers with scales beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ldm.errors import UserError

WEIGHT = ".weight"
SCALES = (".scale_weight", ".weight_scale")
"""What a scale is called, in place of ``.weight``: by ComfyUI, by diffusers."""
HINTS = (".scale_input", ".input_scale", "scaled_fp8")
"""What is meant for arithmetic in 8 bits and says nothing about the weights."""


def unscaled(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return weights as the numbers that they stand for.

    Args:
        tensors: Of a file; those without a scale are returned as they are.
        path: The file, for messages.

    Returns:
        Tensors with float32 in place of scaled 8-bit floats, and without the scales.

    Raises:
        UserError: A weight holds whole numbers, which mean nothing without their quantiser, or a
            scale does not fit its weight.
    """
    whole = [name for name, value in tensors.items() if _is_quantised(name, value)]
    if whole:
        more = f" and {len(whole) - 1} more" if len(whole) > 1 else ""
        raise UserError(
            f"checkpoint {str(path)!r} holds quantised weights ({tensors[whole[0]].dtype} in "
            f"{whole[0]}{more}); expected floating point numbers; give the model that they were "
            "made from"
        )
    scales = {
        name.removesuffix(ending) + WEIGHT: name
        for name in tensors
        for ending in SCALES
        if name.endswith(ending) and name.removesuffix(ending) + WEIGHT in tensors
    }
    if not scales:
        return dict(tensors)
    return {
        name: _scaled(value, tensors[scales[name]], name, path) if name in scales else value
        for name, value in tensors.items()
        if name not in scales.values() and not name.endswith(HINTS)
    }


def _is_quantised(name: str, value: Tensor) -> bool:
    kinds = (torch.int8, torch.uint8, torch.int32)
    return name.endswith(WEIGHT) and value.ndim > 1 and value.dtype in kinds


def _scaled(value: Tensor, scale: Tensor, name: str, path: Path) -> Tensor:
    """Multiply a weight (O, ...) by one scale, or by one for each of its O rows."""
    rows = len(value) if value.ndim else 1
    if scale.numel() not in (1, rows):
        raise UserError(
            f"checkpoint {str(path)!r}: {scale.numel()} scales for {name} of "
            f"{tuple(value.shape)}; expected 1 or {rows}; give the model in float16"
        )
    return value.float() * scale.float().reshape(-1, *[1] * (value.ndim - 1))

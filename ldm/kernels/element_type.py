"""In which element type a product is computed on a processor, and whether ours computes in it."""

from __future__ import annotations

import torch
from torch import Tensor


def computed_type(x: Tensor) -> torch.dtype:
    """Return the element type that products of ``x`` are computed in: autocast's, or its own."""
    cast = x.is_floating_point() and x.dtype != torch.float64
    return torch.get_autocast_dtype("cpu") if cast and torch.is_autocast_enabled("cpu") else x.dtype


def computes_in(dtype: torch.dtype) -> bool:
    """Return whether packed weights multiply in an element type on this processor."""
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32

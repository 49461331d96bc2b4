"""The gate of GEGLU in Triton: value * GELU(gate) in one pass, arXiv:2002.05202, Eq. 6."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 4, 256  # a tile: tokens by features


@triton.jit
def _gate(x, out, rows, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Write the first half of each row times GELU (exact, by erf) of the second."""
    r = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    c = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (r[:, None] < rows) & (c[None, :] < width)
    at = r[:, None] * 2 * width + c[None, :]
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(x + at + width, mask=inside, other=0.0).to(tl.float32)
    gate = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))  # 1 / sqrt(2)
    to = r[:, None] * width + c[None, :]
    tl.store(out + to, (value * gate).to(out.dtype.element_ty), mask=inside)


def gated(x: Tensor) -> Tensor:
    """Return value * GELU(gate), (..., D), of a projection (..., 2 D) that holds value and gate."""
    x = x.contiguous()
    width = x.shape[-1] // 2
    rows = x.numel() // (2 * width)
    out = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
    tiles = (triton.cdiv(rows, ROWS), triton.cdiv(width, COLUMNS))
    _gate[tiles](x, out, rows, width, ROWS=ROWS, COLUMNS=COLUMNS)
    return out

"""GroupNorm and SiLU of channels-last maps in Triton: arXiv:1803.08494, Eq. 1 and 2.

Shapes: B batch, C channels, H W sides, P = H*W positions, G groups, S slices of positions.
A channels-last map (B,C,H,W) is (B,P,C) in memory, so every load here is of neighbouring channels.

Three launches: each slice's mean and squared deviations by channel; from them each group's; and the
map in their terms. Statistics are merged as in Chan et
al., "Updating formulae and a pairwise algorithm for computing sample variances" (1979): a mean far
from zero costs no digits, as it would in E[x^2] - E[x]^2.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, CHANNELS = 64, 64  # a tile: positions by channels
SLICES = 64  # slices that are merged at a time


@triton.jit
def _measure(x, means, squares, positions, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Write a slice's means and sums of squared deviations, (B,S,C) in float32."""
    part, batch = tl.program_id(0), tl.program_id(2)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    p = part * ROWS + tl.arange(0, ROWS)
    inside = (p[:, None] < positions) & (c[None, :] < channels)
    at = (batch.to(tl.int64) * positions + p[:, None]) * channels + c[None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    count = tl.minimum(positions - part * ROWS, ROWS).to(tl.float32)
    mean = tl.sum(values, axis=0) / count
    apart = tl.where(inside, values - mean[None, :], 0.0)
    to = (batch.to(tl.int64) * tl.num_programs(0) + part) * channels + c
    tl.store(means + to, mean, mask=c < channels)
    tl.store(squares + to, tl.sum(apart * apart, axis=0), mask=c < channels)


@triton.jit
def _merge(
    means, squares, weight, factors, centres,
    positions, channels, slices, width, eps,
    ROWS: tl.constexpr, SLICES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Write each group's mean, and what its ``width`` channels are multiplied by, (B,C)."""
    group, batch = tl.program_id(0), tl.program_id(1)
    within = tl.arange(0, WIDTH)
    c = group * width + within
    s = tl.arange(0, SLICES)
    total = 0.0
    for start in range(0, slices, SLICES):
        known = ((start + s)[:, None] < slices) & (within[None, :] < width)
        at = (batch.to(tl.int64) * slices + start + s[:, None]) * channels + c[None, :]
        counts = tl.minimum(positions - (start + s) * ROWS, ROWS).to(tl.float32)
        total += tl.sum(tl.load(means + at, mask=known, other=0.0) * counts[:, None])
    size = positions * width * 1.0  # a float, also where Triton knows both as constants
    mean = total / size
    squared = 0.0
    for start in range(0, slices, SLICES):
        known = ((start + s)[:, None] < slices) & (within[None, :] < width)
        at = (batch.to(tl.int64) * slices + start + s[:, None]) * channels + c[None, :]
        counts = tl.minimum(positions - (start + s) * ROWS, ROWS).to(tl.float32)
        apart = tl.load(means + at, mask=known, other=0.0) - mean
        around = tl.load(squares + at, mask=known, other=0.0) + counts[:, None] * apart * apart
        squared += tl.sum(tl.where(known, around, 0.0))
    scale = 1.0 / tl.sqrt(squared / size + eps)
    w = tl.load(weight + c, mask=within < width, other=0.0).to(tl.float32) * scale
    to = batch.to(tl.int64) * channels + c
    tl.store(factors + to, w, mask=within < width)
    tl.store(centres + to, mean, mask=within < width)


@triton.jit
def _apply(
    x, factors, centres, bias, out, positions, channels,
    SILU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write factor (x - centre) + bias, behind SiLU if asked."""
    batch = tl.program_id(2)
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    p = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = (p[:, None] < positions) & (c[None, :] < channels)
    at = (batch.to(tl.int64) * positions + p[:, None]) * channels + c[None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    own = batch.to(tl.int64) * channels + c
    factor = tl.load(factors + own, mask=c < channels, other=0.0)
    centre = tl.load(centres + own, mask=c < channels, other=0.0)
    offset = tl.load(bias + c, mask=c < channels, other=0.0).to(tl.float32)
    values = (values - centre[None, :]) * factor[None, :] + offset[None, :]
    if SILU:
        values = values / (1.0 + tl.exp(-values))
    tl.store(out + at, values.to(out.dtype.element_ty), mask=inside)


def group_norm(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool
) -> Tensor:
    """Normalise a map (B,C,H,W) over groups of channels, then apply SiLU if asked.

    Args:
        x: Any layout; what is not channels-last is copied to it. Statistics are in float32.
        groups: G, a divisor of C.
        weight: Factors (C,).
        bias: Offsets (C,).
        eps: Added to the variance.
        silu: Whether SiLU follows.

    Returns:
        The map, channels-last, in x's dtype.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = x.shape
    positions, slices = height * width, triton.cdiv(height * width, ROWS)
    tiles = (slices, triton.cdiv(channels, CHANNELS), batch)
    means, squares = x.new_empty((2, batch, slices, channels), dtype=torch.float32)
    factors, centres = x.new_empty((2, batch, channels), dtype=torch.float32)
    out = torch.empty_like(x, memory_format=torch.channels_last)
    _measure[tiles](x, means, squares, positions, channels, ROWS=ROWS, CHANNELS=CHANNELS)
    each = channels // groups
    _merge[(groups, batch)](
        means, squares, weight, factors, centres,
        positions, channels, slices, each, eps,
        ROWS=ROWS, SLICES=SLICES, WIDTH=triton.next_power_of_2(each),
    )  # fmt: skip
    _apply[tiles](
        x, factors, centres, bias, out, positions, channels,
        SILU=silu, ROWS=ROWS, CHANNELS=CHANNELS,
    )  # fmt: skip
    return out

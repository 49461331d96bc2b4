"""Grids of pictures for previews: a line for each sample, and along it the steps.

Shapes: n states along the way, B samples, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def make_grid(
    tensor: Tensor | Sequence[Tensor], nrow: int = 8, padding: int = 2, pad_value: float = 0.0
) -> Tensor:
    """Lay pictures out line by line, as torchvision's function of this name does.

    Args:
        tensor: Pictures (B,C,H,W), or a list of (C,H,W); one channel is shown as grey.
        nrow: Pictures per line.
        padding: Pixels around and between them.
        pad_value: Their value.

    Returns:
        (C, lines (H + padding) + padding, nrow (W + padding) + padding). A single picture is
        returned as it is, without a border.
    """
    pictures = tensor if isinstance(tensor, Tensor) else torch.stack(list(tensor))
    if pictures.shape[1] == 1:
        pictures = pictures.expand(-1, 3, -1, -1)
    count, channels, height, width = pictures.shape
    if count == 1:
        return pictures[0]
    columns = min(nrow, count)
    lines = math.ceil(count / columns)
    cell_h, cell_w = height + padding, width + padding
    sides = (channels, lines * cell_h + padding, columns * cell_w + padding)
    grid = pictures.new_full(sides, pad_value)
    for k, picture in enumerate(pictures):
        top, left = k // columns * cell_h + padding, k % columns * cell_w + padding
        grid[:, top : top + height, left : left + width] = picture
    return grid


def rows_of_states(states: Tensor | Sequence[Tensor]) -> Tensor:
    """Show n states of B samples, (n,B,C,H,W) or a list, as a grid of B lines of n pictures."""
    stacked = states if isinstance(states, Tensor) else torch.stack(list(states))
    return make_grid(stacked.transpose(0, 1).flatten(0, 1), nrow=len(stacked))

"""Lay finished pictures out as a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PADDING = 2  # pixels of black around and between the pictures


def make_grid(pictures: Sequence[np.ndarray], n_rows: int) -> np.ndarray:
    """Lay pictures out row by row, as ``torchvision.utils.make_grid(..., nrow=n_rows)`` does.

    Args:
        pictures: At least one uint8 (H, W, 3), all of one size; not modified.
        n_rows: Pictures per line, named after the reference's flag ``--n_rows``. A shorter last
            line is filled with black.

    Returns:
        uint8 (lines * (H + 2) + 2, columns * (W + 2) + 2, 3); a single picture is returned without
        a border, as torchvision does.

    Raises:
        ValueError: There is no picture, their sizes differ, or ``n_rows`` is below 1.
    """
    if not pictures or n_rows < 1:
        raise ValueError(f"{len(pictures)} pictures, {n_rows} per line; at least 1 of each needed")
    sizes = {picture.shape for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(f"pictures of sizes {sorted(sizes)}; a grid needs pictures of one size")
    if len(pictures) == 1:
        return pictures[0].copy()
    height, width, channels = pictures[0].shape
    columns = min(n_rows, len(pictures))
    lines = -(-len(pictures) // columns)
    cell_h, cell_w = height + PADDING, width + PADDING
    grid = np.zeros((lines * cell_h + PADDING, columns * cell_w + PADDING, channels), np.uint8)
    for k, picture in enumerate(pictures):
        top = k // columns * cell_h + PADDING
        left = k % columns * cell_w + PADDING
        grid[top : top + height, left : left + width] = picture
    return grid

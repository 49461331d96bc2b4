"""Canny's edges (IEEE PAMI 8:679, 1986), to the pixel those of OpenCV, which ControlNet learned."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ldm.hints.filters import shifted, white_where

_TANGENT = 13573  # of 22.5 degrees, in units of 2**-15


def canny(picture: Image.Image, low: float, high: float) -> Image.Image:
    """Return thin edges, white on black.

    Args:
        picture: RGB.
        low: An edge goes on where its strength, a sum of two Sobel slopes, is above this.
        high: It is an edge at all if it is above this somewhere; the two may be exchanged.
    """
    low, high = sorted((int(low), int(high)))
    across, down = _steepest(np.asarray(picture, dtype=np.int32))
    strength = np.abs(across) + np.abs(down)
    ridge = _ridges(strength, across, down) & (strength > low)
    return white_where(_connected(ridge, ridge & (strength > high)))


def _steepest(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Sobel's slopes (H, W) of the channel of pixels (H, W, 3) that is steepest there."""

    def sobel(across: bool) -> np.ndarray:
        def at(along: int, aside: int) -> np.ndarray:
            return shifted(pixels, aside, along) if across else shifted(pixels, along, aside)

        return sum(w * (at(1, side) - at(-1, side)) for side, w in ((-1, 1), (0, 2), (1, 1)))

    slope_x, slope_y = sobel(True), sobel(False)
    best = (np.abs(slope_x) + np.abs(slope_y)).argmax(axis=2)[..., None]  # the first of equals
    return np.take_along_axis(slope_x, best, 2)[..., 0], np.take_along_axis(slope_y, best, 2)[
        ..., 0
    ]


def _ridges(strength: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return where the strength is largest along the slope, of four directions; outside is 0."""

    def at(rows: int, columns: int) -> np.ndarray:
        return shifted(strength, rows, columns, beyond=0)

    x, y = np.abs(across).astype(np.int64), np.abs(down).astype(np.int64) << 15
    flat = y < x * _TANGENT
    steep = y > x * _TANGENT + (x << 16)
    falling = (across ^ down) < 0
    rising_ridge = (strength > at(-1, 1)) & (strength > at(1, -1))
    falling_ridge = (strength > at(-1, -1)) & (strength > at(1, 1))
    # Of two equals side by side the left one, or the upper one, is the edge.
    level = (strength > at(0, -1)) & (strength >= at(0, 1))
    upright = (strength > at(-1, 0)) & (strength >= at(1, 0))
    slanted = np.where(falling, rising_ridge, falling_ridge)
    return np.where(flat, level, np.where(steep, upright, slanted))


def _connected(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the parts of a mask (H, W) that hold a seed; pixels touch at corners too."""
    stride = mask.shape[1] + 2
    free = np.pad(mask & ~seeds, 1).ravel()
    found = np.pad(seeds, 1).ravel()
    steps = np.array([-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1])
    front = np.flatnonzero(found)
    while front.size:
        near = (front[:, None] + steps).ravel()
        front = np.unique(near[free[near]])
        free[front], found[front] = False, True
    return found.reshape(-1, stride)[1:-1, 1:-1]

"""What hints are made of: pictures as numbers, blurs and slopes, in numpy.

Borders are continued by their outermost pixels, so a picture without edges has none at its rim.
Shapes: H W pixels, C channels.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Share of red, green and blue in brightness (ITU-R BT.601)."""


def numbers(picture: Image.Image) -> np.ndarray:
    """Return a picture's pixels (H, W, 3), float32 in [0, 255]."""
    return np.asarray(picture.convert("RGB"), dtype=np.float32)


def brightness(picture: Image.Image) -> np.ndarray:
    """Return how bright each pixel is (H, W), float32 in [0, 255]."""
    return numbers(picture) @ LUMA


def as_picture(values: np.ndarray) -> Image.Image:
    """Turn numbers (H, W) or (H, W, 3) from 0 to 255, others cut off, into an RGB picture."""
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8)).convert("RGB")


def white_where(lines: np.ndarray) -> Image.Image:
    """Return a black picture that is white where ``lines`` (H, W) is true."""
    return Image.fromarray(np.where(lines, np.uint8(255), np.uint8(0))).convert("RGB")


def shifted(values: np.ndarray, down: int, right: int, beyond: float | None = None) -> np.ndarray:
    """Return the values (H, W, ...) that lie so many pixels further down and right.

    Args:
        values: Of any kind.
        down, right: May be negative.
        beyond: What lies outside; None continues the border.
    """
    sides = [(max(-step, 0), max(step, 0)) for step in (down, right)]
    sides += [(0, 0)] * (values.ndim - 2)
    filled = {"mode": "edge"} if beyond is None else {"constant_values": beyond}
    padded = np.pad(values, sides, **filled)
    height, width = values.shape[:2]
    top, left = max(down, 0), max(right, 0)
    return padded[top : top + height, left : left + width]


def blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Return values (H, W, ...) blurred by a Gaussian of ``sigma`` pixels, cut off at 3 sigma.

    Both neighbours at a distance are added first, so a mirrored picture gives the mirrored result.
    """
    reach = max(1, math.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2).astype(np.float32)
    weights /= weights[0] + 2 * weights[1:].sum()
    for axis in (0, 1):
        length = values.shape[axis]
        sides = [(reach, reach) if each == axis else (0, 0) for each in range(values.ndim)]
        padded = np.moveaxis(np.pad(values, sides, mode="edge"), axis, 0)
        total = weights[0] * padded[reach : reach + length]
        for far in range(1, reach + 1):
            before = padded[reach - far : reach - far + length]
            total = total + weights[far] * (before + padded[reach + far : reach + far + length])
        values = np.moveaxis(total, 0, axis)
    return values


def slopes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much values (H, W, ...) grow per pixel, to the right and downwards."""
    across = (shifted(values, 0, 1) - shifted(values, 0, -1)) / 2
    down = (shifted(values, 1, 0) - shifted(values, -1, 0)) / 2
    return across, down


def neighbours(mask: np.ndarray) -> list[np.ndarray]:
    """Return a mask's (H, W) eight neighbours, clockwise from the upper one; outside is False."""
    around = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
    return [shifted(mask, *step, beyond=False) for step in around]


def thinned(mask: np.ndarray) -> np.ndarray:
    """Thin areas of a mask (H, W) to lines of one pixel: Guo and Hall 1989, algorithm A1."""
    while True:
        before = mask
        for half in (0, 1):
            n, ne, e, se, s, sw, w, nw = neighbours(mask)
            # How many separate parts the neighbours form, and how many there are.
            parts = sum(
                (~a & (b | c)).astype(np.uint8)
                for a, b, c in ((n, ne, e), (e, se, s), (s, sw, w), (w, nw, n))
            )
            one = sum((a | b).astype(np.uint8) for a, b in ((nw, n), (ne, e), (se, s), (sw, w)))
            other = sum((a | b).astype(np.uint8) for a, b in ((n, ne), (e, se), (s, sw), (w, nw)))
            few = np.minimum(one, other)
            kept = (s | sw | ~nw) & w if half else (n | ne | ~se) & e
            mask = mask & ~((parts == 1) & (few >= 2) & (few <= 3) & ~kept)
        if np.array_equal(mask, before):
            return mask


def thickened(mask: np.ndarray, width: int) -> np.ndarray:
    """Draw a mask (H, W) by a round pen of ``width`` pixels."""
    low = -((width - 1) // 2)
    middle, result = low + (width - 1) / 2, np.zeros_like(mask)
    for down in range(low, low + width):
        for right in range(low, low + width):
            if math.hypot(down - middle, right - middle) <= width / 2:
                result |= shifted(mask, -down, -right, beyond=False)
    return result

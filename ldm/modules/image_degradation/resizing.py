"""Resize as OpenCV and MATLAB do: super-resolution models are trained to undo exactly that.

Each method is a table per axis that says which pixels an output pixel is the weighted sum of.
OpenCV's methods, except "area", use a few neighbours however much smaller the picture becomes, so
they alias; Pillow's, which are in Pillow, do not.

Shapes: pictures (H, W, C); n pixels in, m pixels out, k taps; tables are indices (m, k) and
weights (m, k) whose rows sum to 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ldm.errors import UserError

Table = tuple[np.ndarray, np.ndarray]


def resize(picture: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    """Resize a picture.

    Args:
        picture: (H, W, C) uint8, or float32 of any range; not modified.
        size: Height and width to make, in pixels.
        method: "nearest", "linear", "cubic", "area", "lanczos": OpenCV's; "matlab": MATLAB's
            bicubic imresize, which does not alias.

    Returns:
        (h, w, C) of the same type. uint8 is rounded and clipped; float32 may overshoot.

    Raises:
        UserError: The method is unknown.
    """
    if method not in METHODS:
        raise UserError(f"resizing {method!r} is not known; expected one of {', '.join(METHODS)}")
    out = picture.astype(np.float32)
    for axis, wanted in enumerate(size):
        out = _along(out, axis, METHODS[method](out.shape[axis], max(1, wanted)))
    if picture.dtype == np.uint8:
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)
    return out


def _along(picture: np.ndarray, axis: int, table: Table) -> np.ndarray:
    indices, weights = table
    shape = [1] * picture.ndim
    shape[axis] = -1
    total = 0.0
    for tap in range(indices.shape[1]):
        weight = weights[:, tap].astype(np.float32).reshape(shape)
        total = total + weight * picture.take(indices[:, tap], axis)
    return total


def _nearest(n: int, m: int) -> Table:
    indices = np.minimum(np.floor(np.arange(m) * (n / m)).astype(int), n - 1)
    return indices[:, None], np.ones((m, 1))


def _by_kernel(kernel: Callable[[np.ndarray], np.ndarray], reach: int) -> Callable[..., Table]:
    """Make the table of a kernel of 2 * ``reach`` taps; border pixels are repeated."""

    def table(n: int, m: int) -> Table:
        centres = (np.arange(m) + 0.5) * (n / m) - 0.5
        first = np.floor(centres).astype(int) - reach + 1
        taps = first[:, None] + np.arange(2 * reach)
        weights = kernel(centres[:, None] - taps)
        return np.clip(taps, 0, n - 1), weights / weights.sum(1, keepdims=True)

    return table


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution; ``a`` is its slope at 1: -0.75 in OpenCV, -0.5 in MATLAB."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _lanczos4(x: np.ndarray) -> np.ndarray:
    return np.sinc(x) * np.sinc(x / 4) * (np.abs(x) < 4)


def _area(n: int, m: int) -> Table:
    """Average over the pixels that an output pixel covers; enlarge by short ramps, as OpenCV."""
    return _area_mean(n, m) if n >= m else _area_ramp(n, m)


def _area_mean(n: int, m: int) -> Table:
    edges = np.arange(m + 1) * (n / m)
    first = np.floor(edges[:-1] + 1e-9).astype(int)
    taps = first[:, None] + np.arange(int(np.ceil(n / m)) + 1)
    covered = np.minimum(taps + 1, edges[1:, None]) - np.maximum(taps, edges[:-1, None])
    weights = np.maximum(covered, 0.0)
    return np.clip(taps, 0, n - 1), weights / weights.sum(1, keepdims=True)


def _area_ramp(n: int, m: int) -> Table:
    places = np.arange(m)
    left = np.floor(places * (n / m)).astype(int)
    over = ((places + 1) - (left + 1) * (m / n)).astype(np.float32)  # 1 - 1e-16 is a whole 1
    share = np.where(over <= 0, 0.0, over - np.floor(over))
    share = np.where(left >= n - 1, 0.0, share)
    taps = np.stack([left, left + 1], axis=1)
    return np.clip(taps, 0, n - 1), np.stack([1 - share, share], axis=1)


def _matlab(n: int, m: int) -> Table:
    """Bicubic with a kernel stretched by the reduction; the picture is mirrored at its border."""
    scale = m / n
    shrink = min(1.0, scale)
    reach = int(np.ceil(2 / shrink)) + 1
    centres = (np.arange(m) + 0.5) / scale - 0.5
    taps = np.floor(centres).astype(int)[:, None] + np.arange(-reach + 1, reach + 1)
    weights = _cubic((centres[:, None] - taps) * shrink, -0.5)
    around = taps % (2 * n)  # the picture and its mirror image, repeated
    return np.where(around < n, around, 2 * n - 1 - around), weights / weights.sum(1, keepdims=True)


METHODS: dict[str, Callable[[int, int], Table]] = {
    "nearest": _nearest,
    "linear": _by_kernel(_triangle, 1),
    "cubic": _by_kernel(lambda x: _cubic(x, -0.75), 2),
    "area": _area,
    "lanczos": _by_kernel(_lanczos4, 4),
    "matlab": _matlab,
}

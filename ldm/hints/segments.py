"""Divide a picture into regions by colour, without a network."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ldm.hints.filters import blurred, numbers, slopes
from ldm.hints.palette import PALETTE

_ROUNDS = 30
_LIKE = 40  # of 256: colours nearer than this begin no region of their own
_GRID = 8  # of 256: colours nearer than this are counted together
_SMOOTHING = 2.0  # pixels: how far a region's pixels outvote others


def segmentation(picture: Image.Image, colours: int, sigma: float) -> Image.Image:
    """Return regions of like colour, each in the nearest free colour of ADE20K's palette.

    Which class a region belongs to is not known without a network: the network is shown where
    regions end, and what they are by their colour alone. A picture that has only colours of the
    palette is a segmentation already and is returned as it is.

    Args:
        picture: RGB.
        colours: The most regions' colours.
        sigma: By how much the picture is blurred first, in pixels.
    """
    pixels = np.asarray(picture)
    if np.isin(_codes(pixels), _codes(PALETTE)).all():
        return picture.copy()
    smooth = blurred(numbers(picture), sigma)
    centres = _clusters(_flat(smooth), colours)
    shares = [
        blurred((_nearest(smooth, centres) == k).astype(np.float32), _SMOOTHING)
        for k in range(len(centres))
    ]
    return Image.fromarray(_palette_of(centres)[np.argmax(shares, axis=0)])


def _flat(smooth: np.ndarray) -> np.ndarray:
    """Return the colours (N, 3) of the flatter half of a picture (H, W, 3).

    The blend of two colours at an edge is then no region of its own.
    """
    steepness = np.hypot(*slopes(smooth)).max(axis=2)
    return smooth[steepness <= np.median(steepness)]


def _codes(colours: np.ndarray) -> np.ndarray:
    """Return one number for each colour (..., 3)."""
    return colours.astype(np.int64) @ np.array([65536, 256, 1])


def _clusters(colours: np.ndarray, count: int) -> np.ndarray:
    """Return the means of at most ``count`` clusters of colours (N, 3), the largest first.

    Lloyd's k-means over the colours of a grid, each as heavy as its pixels are many; it begins with
    the mean and the colours farthest from those before, so it needs no chance.
    """
    cells, inverse, heavy = np.unique(
        _codes(np.floor(colours / _GRID)), return_inverse=True, return_counts=True
    )
    sums = [np.bincount(inverse.ravel(), colours[:, k], len(cells)) for k in range(3)]
    points = np.stack(sums, axis=1) / heavy[:, None]
    centres = np.average(points, axis=0, weights=heavy)[None]
    while len(centres) < min(count, len(points)):
        distances = _distances(points, centres).min(axis=1)
        if distances.max() < _LIKE**2:
            break
        far = np.where(distances < _LIKE**2, 0, distances * np.sqrt(heavy))
        centres = np.concatenate([centres, points[far.argmax()][None]])
    for _ in range(_ROUNDS):
        nearest = _nearest(points, centres)
        weights = np.bincount(nearest, heavy, len(centres))
        sums = [np.bincount(nearest, heavy * points[:, k], len(centres)) for k in range(3)]
        centres = (np.stack(sums, axis=1) / np.maximum(weights, 1)[:, None])[weights > 0]
    return centres[np.argsort(-np.bincount(_nearest(points, centres), heavy), kind="stable")]


def _distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((points[..., None, :] - centres) ** 2).sum(axis=-1)


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return _distances(points, centres).argmin(axis=-1)


def _palette_of(centres: np.ndarray) -> np.ndarray:
    """Return the nearest colour of the palette for each cluster (K, 3), none of them twice."""
    free, chosen = np.unique(PALETTE, axis=0).astype(np.int64), []
    for centre in centres:
        best = _distances(centre, free).argmin()
        chosen.append(free[best])
        free = np.delete(free, best, axis=0)
    return np.array(chosen, np.uint8)

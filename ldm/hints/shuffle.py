"""Shuffle a picture: its colours flow to other places, as ControlNet 1.1's "shuffle" learned."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ldm.hints.filters import as_picture, numbers


def shuffle(picture: Image.Image, seed: int, grain: int) -> Image.Image:
    """Return a picture whose every pixel comes from a random place, smoothly.

    Args:
        picture: RGB.
        seed: Of the random places.
        grain: Distance of the points between which places are interpolated, in pixels.
    """
    random = np.random.default_rng(seed)
    pixels = numbers(picture)
    height, width = pixels.shape[:2]
    across = _smooth_noise(random, height, width, grain) * (width - 1)
    down = _smooth_noise(random, height, width, grain) * (height - 1)
    return as_picture(_taken(pixels, down, across))


def _smooth_noise(random: np.random.Generator, height: int, width: int, grain: int) -> np.ndarray:
    """Return smooth noise (height, width) that goes from 0 to 1."""
    points = random.random((height // grain + 2, width // grain + 2), np.float32)
    size = (width + 2 * grain, height + 2 * grain)
    noise = np.asarray(Image.fromarray(points).resize(size, Image.Resampling.BICUBIC))
    noise = noise[grain : grain + height, grain : grain + width]
    span = noise.max() - noise.min()
    return (noise - noise.min()) / (span if span > 0 else 1)


def _taken(pixels: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return pixels (H, W, 3) at places (H, W) in rows and columns, interpolated."""
    top, left = np.floor(down).astype(int), np.floor(across).astype(int)
    bottom = np.minimum(top + 1, pixels.shape[0] - 1)
    right = np.minimum(left + 1, pixels.shape[1] - 1)
    low, aside = (down - top)[..., None], (across - left)[..., None]
    above = (1 - aside) * pixels[top, left] + aside * pixels[top, right]
    below = (1 - aside) * pixels[bottom, left] + aside * pixels[bottom, right]
    return (1 - low) * above + low * below

"""Hints that keep or change a picture's tones: tile, blur, invert, grey, threshold."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from ldm.hints.filters import as_picture, blurred, brightness, numbers, white_where


def tile(picture: Image.Image, factor: float) -> Image.Image:
    """Return a picture made smaller by ``factor`` and larger again: its colours without detail."""
    small = tuple(max(1, round(side / factor)) for side in picture.size)
    if small == picture.size:
        return picture.copy()
    shrunk = picture.resize(small, Image.Resampling.BOX)
    return shrunk.resize(picture.size, Image.Resampling.BICUBIC)


def blur(picture: Image.Image, sigma: float) -> Image.Image:
    """Return a picture blurred by a Gaussian of ``sigma`` pixels."""
    return as_picture(blurred(numbers(picture), sigma))


def invert(picture: Image.Image) -> Image.Image:
    """Return a picture's negative: black lines on white become what ControlNets expect."""
    return ImageChops.invert(picture)


def grey(picture: Image.Image) -> Image.Image:
    """Return a picture's brightness alone, as "recolor" models expect it."""
    return as_picture(brightness(picture))


def threshold(picture: Image.Image, threshold: float) -> Image.Image:
    """Return what is brighter than ``threshold`` in white, the rest in black."""
    return white_where(np.rint(brightness(picture)) > threshold)

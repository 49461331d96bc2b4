"""Lines of a picture without a network: soft edges, scribbles, line drawings; white on black."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from ldm.hints.filters import (
    as_picture,
    blurred,
    brightness,
    numbers,
    slopes,
    thickened,
    thinned,
    white_where,
)

_GRAIN = 0.04  # of the step from black to white: contrasts of this size are noise as often as not
_FINEST_MEDIAN = 16.0  # of 255: fainter drawings are not made stronger than by this


def softedge(picture: Image.Image, sigma: float) -> Image.Image:
    """Return edges as soft ridges, brighter for more contrast; grain and faint slopes stay dark.

    Args:
        picture: RGB.
        sigma: The width of the ridges, and of what is too fine to be an edge.
    """
    return as_picture(_ridges(picture, sigma))


def scribble(picture: Image.Image, sigma: float, threshold: float, width: int) -> Image.Image:
    """Return the strongest edges as lines of one width.

    Args:
        picture: RGB.
        sigma: As for ``softedge``.
        threshold: Soft edges that are darker are no lines.
        width: Of the pen.
    """
    return white_where(thickened(thinned(_ridges(picture, sigma) > threshold), width))


def _ridges(picture: Image.Image, sigma: float) -> np.ndarray:
    """Return how strong the edge at each pixel is (H, W), from 0 to 255.

    Contrast is the slope of the blurred picture over that of a blurred step of height 1 where it is
    steepest, 1 / (sigma sqrt(2 pi)): of a sharp edge, its step. The largest of three channels
    counts. Its root makes faint edges visible, except below ``_GRAIN``.
    """
    across, down = slopes(blurred(numbers(picture) / 255, sigma))
    steepest = np.hypot(across, down).max(axis=2)
    contrast = (steepest * sigma * math.sqrt(2 * math.pi)).clip(0, 1)
    return 255 * contrast * np.sqrt((1 + _GRAIN) / (contrast + _GRAIN))


def lineart(picture: Image.Image, sigma: float, threshold: float) -> Image.Image:
    """Return how much darker each pixel is than what is around it, as ControlNet's "standard".

    It is made for drawings: what is darker is so in all channels.

    Args:
        picture: RGB.
        sigma: How wide "around" is.
        threshold: Differences that do not count when the typical one, made mid-grey, is found.
    """
    pixels = numbers(picture)
    darker = (blurred(pixels, sigma) - pixels).min(axis=2).clip(0, 255)
    counted = darker[darker > threshold]
    typical = max(_FINEST_MEDIAN, float(np.median(counted))) if counted.size else _FINEST_MEDIAN
    return as_picture(darker * (127 / typical))


def lineart_anime(picture: Image.Image, sigma: float, threshold: float) -> Image.Image:
    """Return thin even lines: a difference of Gaussians of brightness, its size evened out.

    Args:
        picture: RGB.
        sigma: Of the finer Gaussian; the other's is 1.6 times that, as Marr and Hildreth's.
        threshold: Differences that leave no line, of 255.
    """
    light = brightness(picture)
    darker = blurred(light, 1.6 * sigma) - blurred(light, sigma)
    return as_picture(255 * np.tanh((darker - threshold).clip(0) / 6))

"""Mark what has a colour: near it in CIE Lab, where distances are about what eyes see."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageColor

from ldm.errors import UserError
from ldm.legible import quoted

_AROUND = 2  # pixels: the colour of a place is the mean of what is this near, as films have grain


def by_colour(
    picture: Image.Image, *, colour: str | None, at: tuple[int, int] | None, tolerance: float
) -> np.ndarray:
    """Return the mask of a colour, uint8 (H, W).

    Args:
        picture: RGB.
        colour: Its name or ``#rrggbb``.
        at: In place of it, x and y of a pixel that has it.
        tolerance: How far colours may be from it; 2 is just seen, 100 is from black to white.

    Raises:
        UserError: The colour is no colour, or the place is not in the picture.
    """
    pixels = lab(np.asarray(picture))
    wanted = lab(np.array([[_read(colour)]], np.uint8))[0, 0] if at is None else _seen(pixels, at)
    distance = np.sqrt(((pixels - wanted) ** 2).sum(-1))
    return np.where(distance <= tolerance, 255, 0).astype(np.uint8)


def lab(pixels: np.ndarray) -> np.ndarray:
    """Return the CIE Lab values, float32 (H, W, 3), of RGB pixels, uint8 (H, W, 3)."""
    import cv2

    return cv2.cvtColor(pixels.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)


def _read(colour: str | None) -> tuple[int, ...]:
    try:
        return ImageColor.getrgb(colour or "")[:3]
    except ValueError as error:
        raise UserError(
            f"--colour {quoted(colour or '')} was given; expected a name such as red, or #rrggbb; "
            "change it"
        ) from error


def _seen(pixels: np.ndarray, at: tuple[int, int]) -> np.ndarray:
    (x, y), (height, width) = at, pixels.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(
            f"--at {x},{y} was given; the picture is {width}x{height}, and places are counted from "
            "0,0, its upper left corner; change it"
        )
    near = pixels[max(y - _AROUND, 0) : y + _AROUND + 1, max(x - _AROUND, 0) : x + _AROUND + 1]
    return near.reshape(-1, 3).mean(0)

"""Crop, resize and flip a picture of any shape into an array of a fixed size.

Shapes: pictures come out as (H, W, 3) float32 in [-1, 1], RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ldm.data.pictures import to_model_range
from ldm.errors import UserError

INTERPOLATIONS = {
    "linear": Image.Resampling.BILINEAR,  # CompVis has two names for this method
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
Size = int | Sequence[int]


class Frame(NamedTuple):
    """The part of a picture to keep, (left, top, right, bottom) in pixels; whether to mirror it."""

    box: tuple[int, int, int, int]
    mirrored: bool


class Framing:
    """Crop a picture to the largest part of the wanted shape, resize it, maybe mirror it.

    Args:
        size: Side of the square in pixels, or (height, width); None only crops a square, without
            resizing.
        random_crop: Cut at a random place; otherwise in the middle.
        flip_p: Probability of mirroring left to right, 0 to 1.
        interpolation: "linear", "bilinear", "bicubic" or "lanczos"; all antialias when they make
            a picture smaller.

    Raises:
        UserError: A value is out of range.
    """

    def __init__(
        self,
        size: Size | None,
        *,
        random_crop: bool = False,
        flip_p: float = 0.0,
        interpolation: str = "bicubic",
    ):
        self.size = None if size is None else height_and_width(size)
        if not 0 <= flip_p <= 1:
            raise UserError(f"flip_p is {flip_p}; expected a probability, 0 to 1")
        self.random_crop, self.flip_p = random_crop, flip_p
        self.resample = choice(INTERPOLATIONS, interpolation, "interpolation")

    @property
    def enough(self) -> int | None:
        """Shorter side, in pixels, that a decoder must keep to lose no quality (None: all).

        Twice the longer of the wanted sides, as Pillow's own thumbnails do.
        """
        return None if self.size is None else 2 * max(self.size)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        """Frame a picture."""
        return to_model_range(self.apply(image, self.choose(image.size, rng)))

    def choose(self, size: tuple[int, int], rng: np.random.Generator) -> Frame:
        """Choose the part of a picture of (width, height) pixels to keep."""
        width, height = size
        h, w = self.size or (1, 1)
        scale = min(width / w, height / h)
        w, h = max(1, round(scale * w)), max(1, round(scale * h))
        left, top = (width - w) // 2, (height - h) // 2
        if self.random_crop:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        mirrored = self.flip_p > 0 and rng.random() < self.flip_p
        return Frame((left, top, left + w, top + h), mirrored)

    def apply(
        self, image: Image.Image, frame: Frame, resample: Image.Resampling | None = None
    ) -> Image.Image:
        """Crop, resize and mirror, by default with ``interpolation``; label maps need NEAREST."""
        image = image if frame.box == (0, 0, *image.size) else image.crop(frame.box)
        if self.size is not None and image.size != self.size[::-1]:
            image = image.resize(self.size[::-1], self.resample if resample is None else resample)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if frame.mirrored else image


def height_and_width(size: Size) -> tuple[int, int]:
    """Read a size as YAML gives it.

    Raises:
        UserError: It is neither one nor two positive integers.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise UserError(f"size is {size}; expected pixels, one side or [height, width]")
    return sides


def choice(table: dict, name: str, what: str):
    """Look up a name in a table.

    Raises:
        UserError: It is not in the table; the message lists the names that are.
    """
    if name not in table:
        raise UserError(f"{what} {name!r} is not known; expected one of {', '.join(table)}")
    return table[name]

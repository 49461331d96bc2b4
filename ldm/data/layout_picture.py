"""Draw a layout: boxes with their names on white, the visible part of the picture in grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as fractions of the whole picture's sides."""

LINE = 3  # pixels
GREY = "#bfbfbf"
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17becf")


def draw_layout(objects: Sequence[tuple[str, Box]], frame: Box, size: tuple[int, int]) -> Tensor:
    """Draw boxes with their names.

    Args:
        objects: Name and box of each.
        frame: The visible part of the picture.
        size: Width and height in pixels.

    Returns:
        (3, height, width) in [-1, 1].
    """
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(10, min(size) // 20))
    for number, (name, box) in enumerate(objects):
        left, top, right, bottom = _pixels(box, size)
        pen.rectangle(
            (left, top, right, bottom), outline=COLOURS[number % len(COLOURS)], width=LINE
        )
        pen.text((left + LINE, top + LINE), name, fill="black", font=font)
    pen.rectangle(_pixels(frame, size), outline=GREY, width=LINE)
    return torch.from_numpy(np.array(canvas)).movedim(-1, 0) / 127.5 - 1.0


def _pixels(box: Box, size: tuple[int, int]) -> tuple[int, ...]:
    """Return a box in pixels, its right and bottom edges inside the picture."""
    return tuple(round(value * (side - 1)) for value, side in zip(box, size * 2, strict=True))

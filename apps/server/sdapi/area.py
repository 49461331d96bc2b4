"""Pictures and masks as AUTOMATIC1111 brings them to the drawn size.

What becomes of them there is ``ldm.pipelines.only_masked``'s.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

RESIZES = ("just resize", "crop and resize", "resize and fill")
"""AUTOMATIC1111's resize modes by number; its fourth enlarges latents."""


def resized(image: Image.Image, size: tuple[int, int], mode: int) -> Image.Image:
    """Return a picture (RGB or L) brought to a width and height in one of ``RESIZES``."""
    lanczos = Image.Resampling.LANCZOS
    if mode == 0 or image.size == size:
        return image.resize(size, lanczos)
    if mode == 1:
        return ImageOps.fit(image, size, lanczos)
    inner = contained(image, size, lanczos)
    left, top = (size[0] - inner.width) // 2, (size[1] - inner.height) // 2
    rows = (top, size[1] - inner.height - top)
    columns = (left, size[0] - inner.width - left)
    pixels = np.asarray(inner)
    borders = (rows, columns, *(((0, 0),) if pixels.ndim == 3 else ()))
    return Image.fromarray(np.pad(pixels, borders, mode="edge"))


def contained(image: Image.Image, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Return a picture as large as it is within a size, in its own proportions."""
    scale = min(size[0] / image.width, size[1] / image.height)
    width, height = (max(1, round(side * scale)) for side in image.size)  # Pillow's own may be 0
    return image.resize((min(width, size[0]), min(height, size[1])), method)


def read_mask(image: Image.Image) -> Image.Image:
    """Return a mask (L): white is painted anew.

    As in AUTOMATIC1111's program, opaque parts are marked where a mask has transparent ones.
    """
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            return alpha.point([0] * 129 + [255] * 127)
    return image.convert("L").point([0] * 128 + [255] * 128)

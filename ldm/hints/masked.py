"""What a ControlNet for inpainting is shown: the picture, and which part of it is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ldm.errors import UserError
from ldm.images.io import load_image


def inpaint(picture: Image.Image, mask: Image.Image | str | Path) -> Image.Image:
    """Return the picture with black where the mask is white.

    The network is given -1 there, which no picture holds: see ``ldm.adapters.control``.

    Args:
        picture: RGB.
        mask: The part to paint, in white, of the same size; or its file.

    Raises:
        UserError: The mask cannot be read, or has another size.
    """
    pixels = np.array(picture)
    pixels[hidden(picture, mask)] = 0
    return Image.fromarray(pixels)


def hidden(picture: Image.Image, mask: Image.Image | str | Path) -> np.ndarray:
    """Return where a mask is white (H, W).

    Raises:
        UserError: As ``inpaint``.
    """
    if not isinstance(mask, Image.Image):
        mask = load_image(mask)
    if mask.size != picture.size:
        raise UserError(
            f"a mask of {mask.width}x{mask.height} was given for a picture of "
            f"{picture.width}x{picture.height}; expected the same size; resize one of them"
        )
    return np.asarray(mask.convert("L")) >= 128

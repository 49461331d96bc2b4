"""What a ControlNet for inpainting is shown: the picture, and which part of it is not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ldm.errors import UserError
from ldm.images.io import load_image

if TYPE_CHECKING:  # making pictures needs no torch
    import torch

MISSING = -1.0
"""What the network is given for each channel of a pixel that is to be painted; others are 0..1."""


def inpaint(picture: Image.Image, mask: Image.Image | str | Path) -> Image.Image:
    """Return the picture with black where the mask is white: what ``inpaint_values`` looks like.

    Args:
        picture: RGB.
        mask: The part to paint, in white, of the same size; or its file.

    Raises:
        UserError: The mask cannot be read, or has another size.
    """
    pixels = np.array(picture)
    pixels[hidden(picture, mask)] = 0
    return Image.fromarray(pixels)


def inpaint_values(picture: Image.Image, mask: Image.Image | str | Path) -> torch.Tensor:
    """Return what the network is given (1, 3, H, W): 0..1, and ``MISSING`` under the mask.

    Raises:
        UserError: As ``inpaint``.
    """
    import torch

    values = np.asarray(picture.convert("RGB")).astype(np.float32) / 255
    values[hidden(picture, mask)] = MISSING
    return torch.from_numpy(values.transpose(2, 0, 1).copy())[None]


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

"""Read a data set's picture, from a file or bytes in any format, as upright 8-bit RGB.

One function serves all data sets, so that all treat a rotated phone photo, a palette PNG, a CMYK
JPEG and a 16-bit scan alike.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ldm.data.skipping import BadItem
from ldm.errors import UserError
from ldm.images.io import upright_eight_bit
from ldm.images.pixels import open_pixels
from ldm.images.transparency import over
from ldm.paths import reason


def read_picture(
    source: str | Path | bytes, name: str | Path = "", *, at_least: int | None = None
) -> Image.Image:
    """Read a picture as upright 8-bit RGB, with white behind transparent parts.

    Args:
        source: A file's path, or its bytes.
        name: What messages call bytes.
        at_least: Pixels that the shorter side must keep. A JPEG that is at least twice that large
            is decoded at 1/2, 1/4 or 1/8 of its size, which is faster in proportion.

    Raises:
        BadItem: It is missing, empty, truncated, not a picture of a kind that is read, or has more
            pixels than ``ldm.images.opening.most_pixels``.
    """
    data = isinstance(source, bytes)
    name = name if data else source
    try:
        smaller = None if at_least is None else partial(_decode_smaller, at_least=at_least)
        image, _ = open_pixels(source, smaller)  # metadata left out would be told in each epoch
        return over(upright_eight_bit(image), "white")
    except UserError as error:
        raise BadItem(f"{name} {error}") from error
    except Exception as error:  # a damaged file makes a decoder raise almost anything
        raise BadItem(f"{name} cannot be read ({reason(error)})") from error


def _decode_smaller(image: Image.Image, at_least: int) -> None:
    shorter = min(image.size)
    if shorter >= 2 * at_least:
        image.draft(None, tuple(side * at_least // shorter for side in image.size))


def to_model_range(image: Image.Image | np.ndarray) -> np.ndarray:
    """Turn 8-bit values into float32 in [-1, 1].

    In this order of steps every value rounds as the reference's ``x / 127.5 - 1`` in float64.
    """
    values = np.asarray(image).astype(np.float32)
    values -= 127.5
    values /= 127.5
    return values

"""Find the embedding that AUTOMATIC1111's program hides in a picture.

It is a JSON text in which ``{"TORCHTENSOR": [[...], ...]}`` is a tensor. It stands in base64 in a
PNG's text ``sd-ti-embedding`` and, for sites that drop texts, also in the pixels: deflated,
the low halves of its bytes in a block of columns at the left and the high halves in one at the
right, in the low halves of red, green and blue, mixed with a fixed row of numbers. A black column
separates each block from the picture.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ldm.errors import UserError
from ldm.images.io import open_image
from ldm.images.opening import PICTURE_ENDINGS, PNG_SIGNATURE

TEXT = "sd-ti-embedding"
LOW = 0x0F
LONGEST = 2**26  # bytes of JSON: 75 vectors of SD 2 take two million
EXPECTED = "expected one with an embedding of AUTOMATIC1111's program in its texts or pixels"


def is_picture(path: Path) -> bool:
    """Return whether a file is, or calls itself, a picture."""
    with path.open("rb") as file:
        return file.read(8) == PNG_SIGNATURE or path.suffix.lower() in PICTURE_ENDINGS


def embedding_in(path: Path) -> Mapping[str, Any]:
    """Return what the embedding in a picture holds, with tensors.

    Raises:
        UserError: The picture cannot be read, or holds none.
    """
    image = open_image(path)
    text = image.info.get(TEXT)
    try:
        data = base64.b64decode(text) if isinstance(text, str) else bytes_in_pixels(image)
        content = None if data is None else json.loads(data, object_hook=_tensor)
    except (ValueError, RecursionError, zlib.error) as error:
        raise UserError(
            f"picture {str(path)!r} holds a damaged embedding ({type(error).__name__}); "
            f"{EXPECTED}; get the file as it was published"
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(
            f"picture {str(path)!r} holds no embedding; {EXPECTED}; get the file as it was "
            "published, not a smaller copy"
        )
    return content


def bytes_in_pixels(image: Image.Image) -> bytes | None:
    """Return the text in a picture's pixels, or None where its two blocks are not to be seen.

    Raises:
        zlib.error: What the blocks hold is no deflated text, or too long.
    """
    halves = _without_margin(np.asarray(image.convert("RGB"))) & LOW  # (H, W, 3)
    black = np.flatnonzero(halves.sum(axis=(0, 2)) == 0)
    if len(black) < 2:
        return None
    low, high = _mixed(halves[:, : black[0]]), _mixed(halves[:, black[-1] + 1 :])
    if low.shape != high.shape:
        return None
    unpacker = zlib.decompressobj()
    data = unpacker.decompress((high << 4 | low).tobytes(), LONGEST)
    if not unpacker.eof:
        raise zlib.error("a text that does not end")
    return data


def _without_margin(pixels: np.ndarray) -> np.ndarray:
    """Cut off what lies outside of all pixels without a black channel."""
    lit = pixels.all(axis=2)
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if not len(rows):
        return pixels[:0, :0]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _mixed(block: np.ndarray) -> np.ndarray:
    """Mix a block with the row of numbers, or take that away again.

    It is a linear congruential generator modulo 2^32 from 0, with the numbers of "Numerical
    Recipes", each reduced modulo 255.
    """
    numbers = np.empty(block.size, dtype=np.uint8)
    state = 0
    for n in range(block.size):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        numbers[n] = state % 255 & LOW
    return block ^ numbers.reshape(block.shape)


def _tensor(entry: dict[str, Any]) -> Any:
    if "TORCHTENSOR" not in entry:
        return entry
    return torch.tensor(np.array(entry["TORCHTENSOR"], dtype=np.float64))

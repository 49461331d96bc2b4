"""Pictures that adapters are given: as they are, as numbers, or as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ldm.images.io import load_image

Picture = Image.Image | np.ndarray | str | Path
"""A picture, uint8 (H, W, 3), or a picture's file."""


def opened(pictures: Sequence[Picture]) -> list[Image.Image]:
    """Return pictures as RGB."""
    return [_opened(picture) for picture in pictures]


def _opened(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    return Image.fromarray(picture) if isinstance(picture, np.ndarray) else load_image(picture)

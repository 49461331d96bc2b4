"""Data sets of super-resolution pairs: a picture and a small degraded copy of it.

Items: "image" (S, S, 3) and "LR_image" (S / f, S / f, 3), float32 in [-1, 1], RGB; "file_path_".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm.data.files import check_folder, picture_files
from ldm.data.framing import choice
from ldm.data.pictures import read_picture, to_model_range
from ldm.data.skipping import BadItem, SkippingDataset
from ldm.data.strings import Strings
from ldm.errors import UserError
from ldm.modules.image_degradation.degradation import FULL, LIGHT, degradation_bsrgan_variant
from ldm.modules.image_degradation.resizing import resize

Degradation = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""Maps uint8 (S, S, 3), a factor and a random generator to uint8 (S / factor, S / factor, 3)."""


def _opencv(method: str) -> Degradation:
    return lambda picture, f, rng: resize(picture, _smaller(picture, f), method)  # noqa: ARG005


def _pillow(method: Image.Resampling) -> Degradation:
    def degrade(picture: np.ndarray, f: int, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG001
        size = _smaller(picture, f)[::-1]
        return np.asarray(Image.fromarray(picture).resize(size, method))

    return degrade


def _bsrgan(picture: np.ndarray, f: int, rng: np.random.Generator, *, strength) -> np.ndarray:
    return degradation_bsrgan_variant(picture, sf=f, strength=strength, rng=rng)["image"]


def _smaller(picture: np.ndarray, f: int) -> tuple[int, int]:
    return picture.shape[0] // f, picture.shape[1] // f


DEGRADATIONS: dict[str, Degradation] = {
    "bsrgan": partial(_bsrgan, strength=FULL),
    "bsrgan_light": partial(_bsrgan, strength=LIGHT),
    "cv_nearest": _opencv("nearest"),
    "cv_bilinear": _opencv("linear"),
    "cv_bicubic": _opencv("cubic"),
    "cv_area": _opencv("area"),
    "cv_lanczos": _opencv("lanczos"),
    "pil_nearest": _pillow(Image.Resampling.NEAREST),
    "pil_bilinear": _pillow(Image.Resampling.BILINEAR),
    "pil_bicubic": _pillow(Image.Resampling.BICUBIC),
    "pil_box": _pillow(Image.Resampling.BOX),
    "pil_hamming": _pillow(Image.Resampling.HAMMING),
    "pil_lanczos": _pillow(Image.Resampling.LANCZOS),
}


class SuperResolutionPairs(SkippingDataset):
    """Crop a square from each picture, resize it (area), and degrade a copy of it.

    Args:
        root: Folder that the names are relative to.
        names: Paths of the pictures.
        size: Side of the good picture in pixels, a multiple of ``downscale_f``.
        degradation: A key of ``DEGRADATIONS``.
        downscale_f: How many times smaller the degraded picture is.
        min_crop_f: Smallest side of the square, as a fraction of the picture's shorter side.
        max_crop_f: Largest side of the square, at most 1.
        random_crop: Crop at a random place; otherwise in the middle. The side is always random.

    Raises:
        UserError: A value is out of range, or no picture can be read.
    """

    def __init__(
        self,
        root: Path,
        names: list[str],
        size: int,
        degradation: str,
        downscale_f: int = 4,
        min_crop_f: float = 0.5,
        max_crop_f: float = 1.0,
        random_crop: bool = True,
    ):
        _check(size, downscale_f, min_crop_f, max_crop_f)
        self.root, self.names = root, Strings(names)
        self.size, self.downscale_f = size, downscale_f
        self.min_crop_f, self.max_crop_f = min_crop_f, max_crop_f
        self.random_crop = random_crop
        self.degradation = degradation
        choice(DEGRADATIONS, degradation, "degradation")
        super().__init__(len(self.names), source=str(root))

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Read a picture and degrade a copy.

        Raises:
            BadItem: It cannot be read, or is only one pixel high or wide.
        """
        path = self.root / self.names[index]
        good = resize(self._square(read_picture(path), rng), (self.size, self.size), "area")
        bad = DEGRADATIONS[self.degradation](good, self.downscale_f, rng)
        pair = {"image": to_model_range(good), "LR_image": to_model_range(bad)}
        return {**pair, "file_path_": str(path)}

    def _square(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        width, height = image.size
        side = int(min(width, height) * rng.uniform(self.min_crop_f, self.max_crop_f))
        if side < 1:
            raise BadItem(f"a picture of {width}x{height} pixels is too small")
        left, top = (width - side) // 2, (height - side) // 2
        if self.random_crop:
            left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
        return np.asarray(image.crop((left, top, left + side, top + side)))


def _check(size: int, downscale_f: int, min_crop_f: float, max_crop_f: float) -> None:
    if downscale_f < 1 or size < downscale_f or size % downscale_f:
        raise UserError(
            f"size {size} and downscale_f {downscale_f} do not go together; expected a size that "
            "is a multiple of downscale_f"
        )
    if not 0 < min_crop_f <= max_crop_f <= 1:
        raise UserError(
            f"min_crop_f {min_crop_f} and max_crop_f {max_crop_f} given; expected "
            "0 < min_crop_f <= max_crop_f <= 1"
        )


class SuperResolutionFolder(SuperResolutionPairs):
    """``SuperResolutionPairs`` from all pictures under a folder.

    Args:
        root: The folder.
        size: Side of the good picture in pixels.
        degradation: A key of ``DEGRADATIONS``.
        **options: ``downscale_f``, ``min_crop_f``, ``max_crop_f``, ``random_crop``: see the base.

    Raises:
        UserError: The folder does not exist, or as for ``SuperResolutionPairs``.
    """

    def __init__(self, root: str, size: int, degradation: str, **options: Any):
        folder = check_folder(root)
        super().__init__(folder, picture_files(folder), size, degradation, **options)

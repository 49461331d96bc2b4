"""Data set of pictures with a label for every pixel, for semantic synthesis."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm.data.files import check_folder, picture_files
from ldm.data.framing import Framing, Size
from ldm.data.pictures import read_picture, to_model_range
from ldm.data.skipping import BadItem, SkippingDataset, logger
from ldm.data.strings import Strings
from ldm.errors import UserError
from ldm.images.pixels import open_pixels


class SegmentationPairs(SkippingDataset):
    """Pictures in one folder, and their label maps under the same names in another.

    A label map is a PNG, or another lossless file, with one channel or a palette; its values are
    the labels, and it has the size of its picture.

    Items: "image" (H, W, 3) float32 in [-1, 1]; "segmentation" (H, W, n_labels) float32, one-hot.

    Args:
        images: Folder of the pictures.
        labels: Folder of the maps; relative paths are the pictures', apart from the extension.
        size: Side in pixels, or [height, width].
        n_labels: Number of labels.
        ignore_label: Value of pixels without a label, which become zero in all channels.
        random_crop: Cut both at the same random place; otherwise in the middle.
        flip_p: Probability of mirroring both.
        interpolation: For the pictures; labels use nearest-neighbour.

    Raises:
        UserError: A folder is missing, or no picture has a map that can be used.
    """

    def __init__(
        self,
        images: str,
        labels: str,
        size: Size,
        n_labels: int,
        *,
        ignore_label: int | None = 255,
        random_crop: bool = False,
        flip_p: float = 0.0,
        interpolation: str = "bicubic",
    ):
        if n_labels < 1:
            raise UserError(f"n_labels is {n_labels}; expected the number of labels, 1 or more")
        self.images, self.labels = check_folder(images), check_folder(labels)
        self.n_labels, self.ignore_label = n_labels, ignore_label
        self.framing = Framing(
            size, random_crop=random_crop, flip_p=flip_p, interpolation=interpolation
        )
        pairs = self._pairs()
        self.names = Strings(picture for picture, _ in pairs)
        self.maps = Strings(name for _, name in pairs)
        super().__init__(len(pairs), source=str(self.images))

    def _pairs(self) -> list[tuple[str, str]]:
        maps = {os.path.splitext(name)[0]: name for name in picture_files(self.labels)}
        pictures = picture_files(self.images)
        pairs = [(p, maps[stem]) for p in pictures if (stem := os.path.splitext(p)[0]) in maps]
        if pictures and not pairs:
            raise UserError(
                f"{self.labels} has a label map for none of the {len(pictures)} pictures of "
                f"{self.images}; expected the same names but for their endings; check both folders"
            )
        if len(pairs) < len(pictures):
            logger.warning(
                "%s: %d of %d pictures have no label map in %s and are left out",
                *(self.images, len(pictures) - len(pairs), len(pictures), self.labels),
            )
        return pairs

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Read a picture and its map.

        Raises:
            BadItem: One cannot be read, they differ in size, or a label is out of range.
        """
        picture = read_picture(self.images / self.names[index])
        path = self.labels / self.maps[index]
        labels = read_labels(path)
        if labels.size != picture.size:
            raise BadItem(f"{path} is {labels.size} pixels large, its picture {picture.size}")
        frame = self.framing.choose(picture.size, rng)
        labels = self.framing.apply(labels, frame, Image.Resampling.NEAREST)
        return {
            "image": to_model_range(self.framing.apply(picture, frame)),
            "segmentation": self._one_hot(np.asarray(labels), path),
        }

    def _one_hot(self, labels: np.ndarray, path: Path) -> np.ndarray:
        known = (labels >= 0) & (labels < self.n_labels)
        strange = ~known if self.ignore_label is None else ~known & (labels != self.ignore_label)
        if strange.any():
            raise BadItem(f"{path} has the label {labels[strange][0]} of {self.n_labels}")
        return (labels[..., None] == np.arange(self.n_labels)).astype(np.float32)


def read_labels(path: Path) -> Image.Image:
    """Read a label map as it is stored; a palette gives its indices, not its colours.

    Raises:
        BadItem: It cannot be read, or has several channels.
    """
    try:
        image, _ = open_pixels(path)
        if len(image.getbands()) > 1:
            raise BadItem(f"{path} has colours ({image.mode}); one channel is expected")
        return Image.fromarray(np.asarray(image).astype(np.int32))
    except BadItem:
        raise
    except Exception as error:  # a damaged file makes a decoder raise almost anything
        raise BadItem(f"{path} cannot be read ({error})") from error

"""Data set of pictures with object boxes, for layout-to-image models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ldm.data.coco import Annotated, read_coco
from ldm.data.files import check_file, check_folder
from ldm.data.framing import Framing
from ldm.data.layout_tokens import LayoutTokens
from ldm.data.pictures import read_picture, to_model_range
from ldm.data.skipping import SkippingDataset
from ldm.data.strings import Strings


class LayoutFolder(SkippingDataset):
    """Pictures of a folder with the boxes of a COCO file (``instances_*.json``).

    Items: "image" (S, S, 3) float32 in [-1, 1]; "coordinates_bbox" int64 (L,), the tokens of
    ``ldm.data.layout_tokens``: three for each of ``max_objects`` objects, two for the crop.

    Args:
        root: Folder of the pictures.
        annotations: The COCO file: "images", "annotations" with "bbox" [x, y, width, height] in
            pixels, "categories".
        size: Side in pixels.
        max_objects: Objects per picture; if there are more, that many are drawn at random.
        no_tokens: Size of the vocabulary, equal to the conditioner's ``vocab_size``.
        random_crop: Cut the square at a random place; otherwise in the middle.
        flip_p: Probability of mirroring the picture and its boxes.
        interpolation: "linear", "bilinear", "bicubic" or "lanczos".

    Raises:
        UserError: A file is missing or of the wrong kind, or there are more categories than tokens.
    """

    def __init__(
        self,
        root: str,
        annotations: str,
        size: int,
        *,
        max_objects: int = 30,
        no_tokens: int = 8192,
        random_crop: bool = False,
        flip_p: float = 0.0,
        interpolation: str = "bicubic",
    ):
        self.root = check_folder(root)
        self.framing = Framing(
            size, random_crop=random_crop, flip_p=flip_p, interpolation=interpolation
        )
        self.categories, pictures = read_coco(check_file(annotations, "a COCO file of boxes"))
        self.tokens = LayoutTokens(len(self.categories), max_objects, no_tokens)
        self.names = Strings(picture.name for picture in pictures)
        self._objects = _packed(pictures)
        super().__init__(len(pictures), source=str(annotations))

    # The reference's Layout2ImgDiffusion asks its data set for these three, to show a layout.

    @property
    def conditional_builders(self) -> dict[str, LayoutTokens]:
        """What makes and draws each entry that is a layout."""
        return {"coordinates_bbox": self.tokens}

    def get_category_id(self, category_no: int) -> int:
        """Return a category's identifier: here its number."""
        return category_no

    def get_textual_label(self, category_id: int) -> str:
        """Return a category's name."""
        return self.categories[category_id]

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Read a picture and encode its layout.

        Raises:
            BadItem: It cannot be read.
        """
        picture = read_picture(self.root / Path(self.names[index]))
        frame = self.framing.choose(picture.size, rng)
        values, starts = self._objects
        objects = values[starts[index] : starts[index + 1]]
        unit = np.array([*picture.size, *picture.size], np.float64)
        boxes = np.clip(objects[:, 1:] / unit, 0, 1)
        tokens = self.tokens.encode(
            objects[:, 0].astype(int), boxes, np.array(frame.box) / unit, frame.mirrored, rng
        )
        image = to_model_range(self.framing.apply(picture, frame))
        return {"image": image, "coordinates_bbox": tokens}


def _packed(pictures: list[Annotated]) -> tuple[np.ndarray, np.ndarray]:
    """Pack all objects into one array (n, 5); offsets (pictures + 1,) tell where pictures begin."""
    starts = np.cumsum([0, *(len(picture.objects) for picture in pictures)])
    rows = [row for picture in pictures for row in picture.objects]
    return np.array(rows, np.float64).reshape(-1, 5), starts

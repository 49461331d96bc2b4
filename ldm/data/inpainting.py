"""Data sets of pictures with random holes, for training inpainting models.

Besides the picture, items have "mask" (H, W, 1) float32, 1 in the hole and 0 elsewhere, and
"masked_image" (H, W, 3) float32, the picture with its hole filled by a uniform grey.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ldm.data.captions import CaptionedFolder
from ldm.data.folder import ImageFolder
from ldm.data.framing import Size
from ldm.data.masks import check_kind, random_mask
from ldm.errors import UserError


class Holes:
    """Give pictures random holes.

    Args:
        masks: "box", "stroke", or "mixed" (one of the two at random each time).
        hole: Value that fills the hole, in [-1, 1]: 0 for Stable Diffusion's inpainting models,
            which multiply the picture in [-1, 1] by 1 - mask; -1 for CompVis's inpainting_big,
            which multiplies it in [0, 1].

    Raises:
        UserError: A value is not one of these.
    """

    def __init__(self, masks: str, hole: float):
        if not -1 <= hole <= 1:
            raise UserError(f"hole is {hole}; expected a grey from -1, black, to 1, white")
        self.masks, self.hole = check_kind(masks), hole

    def __call__(self, picture: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Return "mask" and "masked_image" of a picture (H, W, 3), which is not modified."""
        mask = random_mask(self.masks, *picture.shape[:2], rng)[..., None]
        masked = np.where(mask > 0, np.float32(self.hole), picture)
        return {"mask": mask, "masked_image": masked}


class InpaintingFolder(ImageFolder):
    """All pictures under a folder, with a new hole each time one is read.

    Items: "image", "mask", "masked_image", "file_path_".

    Args:
        root: The folder.
        size: Side in pixels, or [height, width].
        masks: "box", "stroke" or "mixed".
        hole: Value that fills the hole: see ``Holes``. -1, as CompVis's inpainting_big expects.
        **options: ``random_crop``, ``flip_p``, ``interpolation``: see ``ImageFolder``.

    Raises:
        UserError: As for ``ImageFolder`` and ``Holes``.
    """

    def __init__(
        self, root: str, size: Size, *, masks: str = "mixed", hole: float = -1.0, **options: Any
    ):
        self.holes = Holes(masks, hole)
        super().__init__(root, size, **options)

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Read a picture and make a hole in a copy of it.

        Raises:
            BadItem: It cannot be read.
        """
        item = super().item(index, rng)
        return {**item, **self.holes(item["image"], rng)}


class CaptionedInpaintingFolder(CaptionedFolder):
    """Captioned pictures of a folder, with a new hole each time one is read.

    Items: "jpg", "txt", "mask", "masked_image".

    Args:
        root: The folder.
        size: Side in pixels, or [height, width].
        masks: "box", "stroke" or "mixed".
        hole: Value that fills the hole: see ``Holes``. 0, as Stable Diffusion's models expect.
        **options: See ``CaptionedFolder``.

    Raises:
        UserError: As for ``CaptionedFolder`` and ``Holes``.
    """

    def __init__(
        self, root: str, size: Size, *, masks: str = "mixed", hole: float = 0.0, **options: Any
    ):
        self.holes = Holes(masks, hole)
        super().__init__(root, size, **options)

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Read a picture and its caption, and make a hole in a copy of the picture.

        Raises:
            BadItem: One of the two cannot be read.
        """
        item = super().item(index, rng)
        return {**item, **self.holes(item["jpg"], rng)}

"""LSUN's pictures, exported to folders and listed in text files, under CompVis's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ldm.data.files import check_file, check_folder
from ldm.data.framing import Framing, Size
from ldm.data.pictures import read_picture
from ldm.data.skipping import SkippingDataset
from ldm.data.strings import Strings


class LSUNBase(SkippingDataset):
    """Pictures listed in a file, cropped to the square in the middle.

    Items: "image" (H, W, 3) float32 in [-1, 1]; "relative_file_path_", "file_path_" str.

    Args:
        txt_file: Text file with one path per line, relative to ``data_root``.
        data_root: The folder of the pictures.
        size: Side in pixels; None keeps the square as large as it is.
        interpolation: "linear" or "bilinear" (both the same), "bicubic", "lanczos".
        flip_p: Probability of mirroring left to right.

    Raises:
        UserError: The list or the folder does not exist, or no picture can be read.
    """

    def __init__(
        self,
        txt_file: str,
        data_root: str,
        size: Size | None = None,
        interpolation: str = "bicubic",
        flip_p: float = 0.5,
    ):
        listed = check_file(txt_file, "a list of pictures, one path a line")
        self.root = check_folder(data_root)
        self.framing = Framing(size, flip_p=flip_p, interpolation=interpolation)
        lines = listed.read_text(encoding="utf-8").splitlines()
        self.names = Strings(line.strip() for line in lines if line.strip())
        super().__init__(len(self.names), source=str(listed))

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Read and frame a picture.

        Raises:
            BadItem: It cannot be read.
        """
        name = self.names[index]
        path = self.root / Path(name)
        image = self.framing(read_picture(path), rng)
        return {"image": image, "relative_file_path_": name, "file_path_": str(path)}


class LSUNSplit(LSUNBase):
    """``LSUNBase`` with CompVis's file locations as defaults.

    Args:
        txt_file: As for ``LSUNBase``, as are the others; None takes the class's own.
        data_root: None takes the class's own.
        size: Side in pixels, or None.
        interpolation: A name that ``LSUNBase`` knows.
        flip_p: None takes 0.5 for training and 0 for validation.

    Raises:
        UserError: As for ``LSUNBase``.
    """

    listed_in: str
    folder: str
    mirrored = 0.5

    def __init__(
        self,
        txt_file: str | None = None,
        data_root: str | None = None,
        size: Size | None = None,
        interpolation: str = "bicubic",
        flip_p: float | None = None,
    ):
        flip_p = self.mirrored if flip_p is None else flip_p
        super().__init__(
            txt_file or self.listed_in, data_root or self.folder, size, interpolation, flip_p
        )


class LSUNChurchesTrain(LSUNSplit):
    """Churches to train with."""

    listed_in, folder = "data/lsun/church_outdoor_train.txt", "data/lsun/churches"


class LSUNChurchesValidation(LSUNSplit):
    """Churches kept for validation."""

    listed_in, folder = "data/lsun/church_outdoor_val.txt", "data/lsun/churches"
    mirrored = 0.0


class LSUNBedroomsTrain(LSUNSplit):
    """Bedrooms to train with."""

    listed_in, folder = "data/lsun/bedrooms_train.txt", "data/lsun/bedrooms"


class LSUNBedroomsValidation(LSUNSplit):
    """Bedrooms kept for validation."""

    listed_in, folder = "data/lsun/bedrooms_val.txt", "data/lsun/bedrooms"
    mirrored = 0.0


class LSUNCatsTrain(LSUNSplit):
    """Cats to train with."""

    listed_in, folder = "data/lsun/cat_train.txt", "data/lsun/cats"


class LSUNCatsValidation(LSUNSplit):
    """Cats kept for validation."""

    listed_in, folder = "data/lsun/cat_val.txt", "data/lsun/cats"
    mirrored = 0.0

"""Data sets of plain pictures: all under one folder, or one folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ldm.data.files import check_folder, picture_files
from ldm.data.framing import Framing, Size
from ldm.data.pictures import read_picture
from ldm.data.skipping import SkippingDataset
from ldm.data.strings import Strings
from ldm.errors import UserError


class ImageFolder(SkippingDataset):
    """All pictures under a folder, for first stages and unconditional models.

    Items: "image" (H, W, 3) float32 in [-1, 1]; "file_path_" str.

    Args:
        root: The folder; subfolders are searched too.
        size: Side in pixels, or [height, width].
        random_crop: Cut the square at a random place; otherwise in the middle.
        flip_p: Probability of mirroring left to right.
        interpolation: "linear", "bilinear", "bicubic" or "lanczos".

    Raises:
        UserError: There is no such folder, it has no pictures, or none can be read.
    """

    def __init__(
        self,
        root: str,
        size: Size,
        *,
        random_crop: bool = False,
        flip_p: float = 0.0,
        interpolation: str = "bicubic",
    ):
        self.root = check_folder(root)
        self.framing = Framing(
            size, random_crop=random_crop, flip_p=flip_p, interpolation=interpolation
        )
        self.names = Strings(self._list())
        super().__init__(len(self.names), source=str(self.root))

    def _list(self) -> list[str]:
        return picture_files(self.root)

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Read and frame a picture.

        Raises:
            BadItem: It cannot be read.
        """
        path = self.root / self.names[index]
        picture = read_picture(path, at_least=self.framing.enough)
        return {"image": self.framing(picture, rng), "file_path_": str(path)}


class ClassFolder(ImageFolder):
    """One folder of pictures for each class, for class-conditional models.

    Items: those of ``ImageFolder``, "class_label" int, "human_label" str (the folder's name).

    Classes are numbered in the order of their folders' names, without empty folders. Give
    ``class_names`` if the training and validation folders do not have the same classes.

    Args:
        root: The folder that holds the classes' folders; pictures directly in it have no class
            and are skipped.
        size: Side in pixels, or [height, width].
        class_names: Folder names in the order of the class numbers; other folders are skipped.
        **options: ``random_crop``, ``flip_p``, ``interpolation``: see ``ImageFolder``.

    Raises:
        UserError: As for ``ImageFolder``, or a class has no folder.
    """

    def __init__(self, root: str, size: Size, *, class_names: list[str] | None = None, **options):
        self.class_names = None if class_names is None else list(class_names)
        super().__init__(root, size, **options)

    def _list(self) -> list[str]:
        names = [name for name in picture_files(self.root) if "/" in name]
        if self.class_names is None:
            self.class_names = sorted({folder_of(name) for name in names})
        numbers = {name: number for number, name in enumerate(self.class_names)}
        names = [name for name in names if folder_of(name) in numbers]
        if not names:
            raise UserError(
                f"{self.root} has no pictures in folders of classes; expected one folder for each "
                "class; for pictures without classes use ldm.data.folder.ImageFolder"
            )
        self._classes = np.array([numbers[folder_of(name)] for name in names], np.int32)
        return names

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Read and frame a picture, and name its class."""
        number = int(self._classes[index])
        labels = {"class_label": number, "human_label": self.class_names[number]}
        return {**super().item(index, rng), **labels}


def folder_of(name: str | Path) -> str:
    """Return the first part of a path below a data set's folder."""
    return str(name).split("/", 1)[0]

"""ImageNet (ILSVRC 2012) under CompVis's names, read from folders on disk and never downloaded.

Items of ``ImageNetTrain`` and ``ImageNetValidation``: "image" (S, S, 3) float32 in [-1, 1], RGB;
"class_label" int; "human_label", "synsets", "relpath", "file_path_" str. Items of the
super-resolution sets: see ``ldm.data.superresolution``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ldm.data.imagenet_files import TRAIN, VALIDATION, all_pictures, classed_files, split_folder
from ldm.data.pictures import read_picture, to_model_range
from ldm.data.skipping import SkippingDataset
from ldm.data.strings import Strings
from ldm.data.superresolution import SuperResolutionPairs
from ldm.data.synsets import SYNSET_FILE, chosen_classes, read_synsets
from ldm.errors import UserError
from ldm.modules.image_degradation.resizing import resize
from ldm.paths import at_home, is_file

CONFIG_KEYS = ("size", "random_crop", "sub_indices", "keep_orig_class_label", "synset_file")


class ImageNetBase(SkippingDataset):
    """A split of ImageNet, or of any data set with one folder per class.

    Classes are numbered by their sorted folder names; for the whole ImageNet these are the usual
    numbers 0 to 999.

    Args:
        process_images: Read the pictures; otherwise an item is only its file's path.
        data_root: Folder that holds the split; None is CompVis's, ~/.cache/autoencoders/data.
        config: ``size``, side in pixels (256); ``random_crop``, crop at a random place;
            ``sub_indices``, the classes to keep, as in "0-9, 50-58"; ``keep_orig_class_label``,
            keep the numbers of the whole ImageNet (of ``synset_file``); ``synset_file``, a list of
            classes to use in place of data/imagenet_synsets.txt.

    Raises:
        UserError: The folder has no such split, or a setting is invalid.
    """

    names: tuple[str, ...]
    crops_at_random: bool

    def __init__(
        self,
        process_images: bool = True,
        data_root: str | None = None,
        config: Mapping[str, Any] | None = None,
    ):
        self.process_images = process_images
        self.config = _settings(config, type(self).__name__)
        self.size = int(self.config.get("size", 256))
        if self.size < 1:
            raise UserError(f"config.size is {self.size}; expected pixels, 1 or more")
        self.random_crop = bool(self.config.get("random_crop", self.crops_at_random))
        self.root = split_folder(data_root, self.names)
        self._number(self._kept(classed_files(self.root)))
        super().__init__(len(self.paths), source=str(self.root))

    def _kept(self, files: list[tuple[str, str]]) -> list[tuple[str, str]]:
        self._known = _known_classes(self.config.get("synset_file"))
        if "sub_indices" not in self.config:
            return files
        kept = chosen_classes(self.config["sub_indices"], self._known)
        return [pair for pair in files if pair[1] in kept]

    def _number(self, files: list[tuple[str, str]]) -> None:
        present = sorted({synset for _, synset in files})
        whole = self.config.get("keep_orig_class_label", False)
        numbers = {name: k for k, name in enumerate(self._known if whole else present)}
        if unknown := [synset for synset in present if synset not in numbers]:
            raise UserError(
                f"keep_orig_class_label given, but {self.root / unknown[0]} is no class of the "
                "list; expected its classes; name another list in config.synset_file"
            )
        self.paths = Strings(name for name, _ in files)
        self.synsets = present
        place = {synset: k for k, synset in enumerate(present)}
        self._places = np.array([place[synset] for _, synset in files], np.int32)
        self.class_labels = np.array([numbers[synset] for _, synset in files], np.int64)

    def item(self, index: int, rng: np.random.Generator) -> Any:
        """Read a picture and its labels.

        Raises:
            BadItem: It cannot be read.
        """
        path = self.root / self.paths[index]
        if not self.process_images:
            return str(path)
        synset = self.synsets[self._places[index]]
        return {
            "image": to_model_range(self._square(np.asarray(read_picture(path)), rng)),
            "class_label": int(self.class_labels[index]),
            "human_label": self._known.get(synset, synset),
            "synsets": synset,
            "relpath": self.paths[index],
            "file_path_": str(path),
        }

    def _square(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Resize the shorter side to the size, then crop a square."""
        height, width = picture.shape[:2]
        scale = self.size / min(height, width)
        height, width = round(height * scale), round(width * scale)
        # As in the reference's loader: OpenCV's bilinear, which aliases when it downsamples.
        picture = resize(picture, (height, width), "linear")
        top, left = (height - self.size) // 2, (width - self.size) // 2
        if self.random_crop:
            top = int(rng.integers(height - self.size + 1))
            left = int(rng.integers(width - self.size + 1))
        return picture[top : top + self.size, left : left + self.size]


class ImageNetTrain(ImageNetBase):
    """The training pictures; cropped at random places by default."""

    names, crops_at_random = TRAIN, True


class ImageNetValidation(ImageNetBase):
    """The validation pictures; cropped in the middle by default."""

    names, crops_at_random = VALIDATION, False


class ImageNetSR(SuperResolutionPairs):
    """Super-resolution pairs from all pictures of a split of ImageNet.

    Args:
        size: Side of the good picture in pixels.
        degradation: A key of ``ldm.data.superresolution.DEGRADATIONS``.
        downscale_f: As for ``SuperResolutionPairs``, as are the next three.
        min_crop_f: Smallest side of the square, as a fraction of the shorter side.
        max_crop_f: Largest side of the square, as a fraction of the shorter side.
        random_crop: Crop at a random place.
        data_root: Folder that holds the split; None is CompVis's.

    Raises:
        UserError: As for ``SuperResolutionPairs``, or there is no such split.
    """

    split: tuple[str, ...]

    def __init__(
        self,
        size: int,
        degradation: str,
        downscale_f: int = 4,
        min_crop_f: float = 0.5,
        max_crop_f: float = 1.0,
        random_crop: bool = True,
        data_root: str | None = None,
    ):
        root = split_folder(data_root, self.split)
        super().__init__(
            *(root, all_pictures(root), size, degradation),
            *(downscale_f, min_crop_f, max_crop_f, random_crop),
        )


class ImageNetSRTrain(ImageNetSR):
    """Pairs of the training pictures."""

    split = TRAIN


class ImageNetSRValidation(ImageNetSR):
    """Pairs of the validation pictures."""

    split = VALIDATION


def _settings(config: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """Read ``config``; CompVis writes ``random_crop`` below the class's name.

    Raises:
        UserError: A setting is not known.
    """
    settings = dict(config or {})
    settings.update(settings.pop(name, None) or {})
    if unknown := set(settings) - set(CONFIG_KEYS):
        raise UserError(
            f"config of {name} has {', '.join(sorted(unknown))}; it takes {', '.join(CONFIG_KEYS)}"
        )
    return settings


def _known_classes(path: str | None) -> Mapping[str, str]:
    if path is not None:
        return read_synsets(at_home(path))
    return read_synsets() if is_file(SYNSET_FILE) else {}

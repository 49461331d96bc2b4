"""Data sets of captioned pictures: a text file beside each, or one JSON line for each.

Items: "jpg" (H, W, 3) float32 in [-1, 1], RGB; "txt" str. These are Stable Diffusion's keys.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ldm.data.caption_texts import check_encoding, check_errors, choose, read_caption
from ldm.data.files import all_files, check_file, check_folder
from ldm.data.framing import Framing, Size
from ldm.data.pictures import read_picture
from ldm.data.records import read_records
from ldm.data.skipping import BadItem, SkippingDataset, logger
from ldm.data.strings import Strings
from ldm.errors import UserError
from ldm.images.opening import PICTURE_ENDINGS
from ldm.paths import exists


class Captioned(SkippingDataset):
    """Framed pictures with captions; a subclass finds an item's picture and caption.

    Args:
        length: Items.
        size: Side of the pictures in pixels, or [height, width].
        source: Name of the data in messages.
        random_crop: Cut the picture at a random place; otherwise in the middle.
        flip_p: Probability of mirroring left to right. Captions that say "left" are then wrong.
        interpolation: "linear", "bilinear", "bicubic" or "lanczos".

    Raises:
        UserError: There are no items, or none can be read.
    """

    def __init__(
        self,
        length: int,
        size: Size,
        *,
        source: str,
        random_crop: bool = False,
        flip_p: float = 0.0,
        interpolation: str = "bicubic",
    ):
        self.framing = Framing(
            size, random_crop=random_crop, flip_p=flip_p, interpolation=interpolation
        )
        super().__init__(length, source=source)

    def picture(self, index: int) -> tuple[str | Path | bytes, str]:
        """Return a picture's path or bytes, and its name for messages."""
        raise NotImplementedError

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """Return the caption of an item.

        Raises:
            BadItem: It has none that can be read.
        """
        raise NotImplementedError

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Read a caption and its picture.

        Raises:
            BadItem: One of the two cannot be read.
        """
        caption = self.caption(index, rng)
        picture = read_picture(*self.picture(index), at_least=self.framing.enough)
        return {"jpg": self.framing(picture, rng), "txt": caption}


class CaptionedFolder(Captioned):
    """Pictures of a folder, each with a .txt file of the same name beside it.

    Endings may be in capitals: X.TXT is the caption of X.JPG.

    Args:
        root: The folder; subfolders are searched too.
        size: Side in pixels, or [height, width].
        default_caption: Text for pictures that have no caption, or an empty one; "" is a caption
            too. None leaves such pictures out and reports how many there were.
        encoding: Encoding of the caption files. A byte order mark at their beginning overrides it.
        encoding_errors: What to do with bytes that are not in that encoding: "strict" leaves the
            picture out and counts it, "replace" puts � in their place, "ignore" drops them.
        **options: ``random_crop``, ``flip_p``, ``interpolation``: see ``Captioned``.

    Raises:
        UserError: The folder does not exist, or nothing in it can be used.
    """

    def __init__(
        self,
        root: str,
        size: Size,
        *,
        default_caption: str | None = None,
        encoding: str = "utf-8",
        encoding_errors: str = "strict",
        **options: Any,
    ):
        self.root = check_folder(root)
        self.default_caption = default_caption
        self.encoding = check_encoding(encoding)
        self.encoding_errors = check_errors(encoding_errors)
        self.names = Strings(self._captioned())
        super().__init__(len(self.names), size, source=str(self.root), **options)

    def _captioned(self) -> list[str]:
        """List pictures that have a caption file, or all of them if there is a default."""
        files = sorted(all_files(self.root))
        # Endings in capitals come first, so that of X.TXT and X.txt the second stays.
        texts = {_stem(name): name for name in files if _ending(name) == ".txt"}
        pictures = [name for name in files if _ending(name) in PICTURE_ENDINGS]
        captioned = [name for name in pictures if _stem(name) in texts]
        self._capitals = {stem: text for stem, text in texts.items() if not text.endswith(".txt")}
        self._report_missing(len(pictures) - len(captioned), len(pictures))
        return captioned if self.default_caption is None else pictures

    def _report_missing(self, missing: int, pictures: int) -> None:
        if not missing:
            return
        if missing == pictures and self.default_caption is None:
            raise UserError(
                f"{self.root}: none of {pictures} pictures has a caption; expected NAME.txt beside "
                "NAME.jpg; add them, or set default_caption"
            )
        what = "left out" if self.default_caption is None else "given the default caption"
        logger.warning(
            "%s: %d of %d pictures have no caption file and are %s",
            *(self.root, missing, pictures, what),
        )

    def picture(self, index: int) -> tuple[Path, str]:
        """Return a picture's path."""
        name = self.names[index]
        return self.root / name, name

    def caption(self, index: int, rng: np.random.Generator) -> str:  # noqa: ARG002 - one per file
        """Read the caption beside a picture.

        Raises:
            BadItem: It cannot be read, or is empty and there is no default.
        """
        stem = _stem(self.names[index])
        path = self.root / self._capitals.get(stem, f"{stem}.txt")
        if self.default_caption is not None and not exists(path):
            return self.default_caption
        text = read_caption(path, self.encoding, self.encoding_errors)
        if text or self.default_caption is not None:
            return text or self.default_caption
        raise BadItem(f"{path} is empty")


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


class CaptionedJSONL(Captioned):
    """Pictures and captions named by the lines of a JSONL file.

    A line is an object with a picture's path under "file_name", "image" or "path", relative to the
    file's folder unless absolute, and a caption, or a list to choose from at random each time,
    under "text", "caption" or "prompt"; the first of these names that is present counts. Other
    lines are skipped, and a warning gives their numbers.

    Args:
        path: The file, UTF-8.
        size: Side in pixels, or [height, width].
        root: Folder that paths are relative to, if not the file's own.
        **options: ``random_crop``, ``flip_p``, ``interpolation``: see ``Captioned``.

    Raises:
        UserError: The file does not exist, or nothing in it can be used.
    """

    def __init__(self, path: str, size: Size, *, root: str | None = None, **options: Any):
        file = check_file(path, "a JSONL file of pictures and captions")
        self.root = file.parent if root is None else check_folder(root)
        records = read_records(file)
        self.names = Strings(record.picture for record in records)
        self.texts = Strings(record.texts for record in records)
        super().__init__(len(self.names), size, source=str(file), **options)

    def picture(self, index: int) -> tuple[Path, str]:
        """Return a picture's path."""
        name = self.names[index]
        return self.root / name, name

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """Return a caption of an item."""
        return choose(self.texts[index], rng)

"""The pictures of a folder, for evaluation: listed, read one by one, damaged ones counted.

Imports no torch of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from ldm.data.files import picture_files
from ldm.data.pictures import read_picture
from ldm.data.skipping import BadItem
from ldm.errors import UserError


class PictureSet:
    """The pictures of a folder and its subfolders.

    Args:
        folder: The folder.
        flag: The flag that the user named the folder with, for messages.

    Attributes:
        names: Paths below the folder, sorted.
        unreadable: Why a picture could not be read, by name; filled as pictures are read.
        sizes: How many pictures of each (width, height), in pixels, were read.

    Raises:
        UserError: the folder does not exist, or has no pictures.
    """

    def __init__(self, folder: str | Path, flag: str) -> None:
        self.folder, self.flag = Path(folder), flag
        try:
            self.names = picture_files(self.folder)
        except UserError as error:
            raise UserError(f"{flag} {error}") from error
        if not self.names:
            raise UserError(
                f"{flag} {folder} has no pictures; expected files such as .png or .jpg; "
                "check the folder"
            )
        self.unreadable: dict[str, str] = {}
        self.sizes: Counter[tuple[int, int]] = Counter()

    def read(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, Image.Image]]:
        """Yield pictures that can be read, as 8-bit RGB, with their names.

        Args:
            names: Which ones; by default all.
        """
        for name in self.names if names is None else names:
            try:
                picture = read_picture(self.folder / name)
            except BadItem as error:
                self.unreadable[name] = str(error)
            else:
                self.sizes[picture.size] += 1
                yield name, picture

    def require_readable(self) -> None:
        """Check that at least one picture could be read.

        Raises:
            UserError: none could; the message says why the first one failed.
        """
        if not self.sizes and self.unreadable:
            raise UserError(
                f"{self.flag} {self.folder}: none of {len(self.unreadable)} pictures can be read "
                f"({next(iter(self.unreadable.values()))}); expected whole picture files; "
                "check the folder"
            )

    def notice(self) -> str | None:
        """Return a notice of how many pictures could not be read; None if all could."""
        if not self.unreadable:
            return None
        count, reason = len(self.unreadable), next(iter(self.unreadable.values()))
        files = "picture was" if count == 1 else "pictures were"
        return f"{self.flag} {self.folder}: {count} {files} left out: {reason}"

    def sizes_in_words(self) -> str:
        """Describe the sizes read, such as ``256x256`` or ``3 sizes from 64x64 to 512x512``."""
        ordered = sorted(self.sizes, key=lambda size: size[0] * size[1])
        if not ordered:
            return "nothing read"
        first, last = (f"{width}x{height}" for width, height in (ordered[0], ordered[-1]))
        return first if len(ordered) == 1 else f"{len(ordered)} sizes from {first} to {last}"


def in_batches(items: Iterable, size: int) -> Iterator[list]:
    """Yield lists of ``size`` items, the last one shorter."""
    batch: list = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

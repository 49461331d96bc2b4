"""The picture that image-to-image starts from. Imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from ldm.images.io import fit_to_multiple, load_image


@dataclass(frozen=True, eq=False)
class InitImage:
    """A picture to start from.

    Attributes:
        pixels: RGB, both sides a multiple of what the model needs.
        original_size: Width and height in pixels before that.
        path: Where it was read, as the user gave it; empty for a picture from memory.
        sha256: Hash of the file, empty for a picture from memory.
    """

    pixels: Image.Image
    original_size: tuple[int, int]
    path: str = ""
    sha256: str = ""

    @classmethod
    def fit(cls, image: Image.Image, multiple: int) -> InitImage:
        """Bring ``image`` to sides that are multiples of ``multiple`` pixels."""
        pixels, _ = fit_to_multiple(image.convert("RGB"), multiple)
        return cls(pixels, image.size)

    @property
    def remark(self) -> str | None:
        """Say that the picture was resized, if it was."""
        if self.pixels.size == self.original_size:
            return None
        (w0, h0), (w, h) = self.original_size, self.pixels.size
        return f"{self.path or 'the picture'} is {w0}x{h0}; resized to {w}x{h}, as the model needs."


def load_init_image(path: str, multiple: int) -> InitImage:
    """Read a picture file and fit it.

    Raises:
        UserError: no such file, or not a picture.
    """
    image = InitImage.fit(load_image(path), multiple)
    return replace(image, path=path, sha256=file_hash(path))


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()

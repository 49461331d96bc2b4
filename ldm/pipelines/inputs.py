"""The picture that image-to-image starts from. Imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from ldm.errors import UserError
from ldm.images.io import fit_to_multiple, load_image


@dataclass(frozen=True, eq=False)
class InitImage:
    """A picture to start from.

    Attributes:
        pixels: RGB.
        path: Where it was read, as the user gave it; empty for a picture from memory.
        sha256: Hash of the file, empty for a picture from memory.
        remark: Says that the picture was resized, if it was.
    """

    pixels: Image.Image
    path: str = ""
    sha256: str = ""
    remark: str | None = None

    @classmethod
    def read(cls, path: str | None) -> InitImage:
        """Read a picture file.

        Raises:
            UserError: no file was named, there is none, or it is not a picture.
        """
        if path is None:
            raise UserError(
                "no --init-img was given; expected the picture to start from; "
                "add --init-img FILE (scripts/txt2img.py draws from text alone)"
            )
        return cls(load_image(path), path, file_hash(path))

    def fit(self, multiple: int) -> InitImage:
        """Return the picture with sides that are multiples of ``multiple`` pixels."""
        pixels, changed = fit_to_multiple(self.pixels.convert("RGB"), multiple)
        if not changed:
            return replace(self, pixels=pixels)
        (w0, h0), (w, h) = self.pixels.size, pixels.size
        name = self.path or "the picture"
        text = f"{name} is {w0}x{h0}: resized to {w}x{h}, as sides must be multiples of {multiple}."
        return replace(self, pixels=pixels, remark=text)


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()

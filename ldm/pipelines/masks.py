"""The mask of a picture to repaint: read, fitted to the picture, reduced to latent size.

    mask picture -> bool (H0, W0) -> bool (H, W) of the fitted picture -> bool (h, w) latent cells

Masks are binary: a pixel is repainted if it is half grey or brighter, and kept if it is darker.
Whenever a mask is reduced, a cell is repainted if any part of it is marked, so that nothing the
user painted over remains.
Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ldm.digests import file_hash
from ldm.errors import UserError
from ldm.images.io import open_image, upright_eight_bit
from ldm.images.padding import reflected
from ldm.images.pixels import named
from ldm.images.transparency import over

HALF_GREY = 128  # of 255
# A mask with a different aspect ratio was made for another picture.
PROPORTION_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Mask:
    """Where a picture is repainted.

    Attributes:
        marked: bool (H, W): True where to repaint.
        path: The file, as the user gave it; empty for a mask from memory.
        sha256: Hash of the file, empty for a mask from memory.
        notice: Says that the mask was resized, if it did not have the picture's size.
    """

    marked: np.ndarray
    path: str = ""
    sha256: str = ""
    notice: str | None = None

    @classmethod
    def of(cls, image: Image.Image) -> Mask:
        """Make a mask from a picture: white is repainted, black and transparent parts are kept."""
        image = upright_eight_bit(image)
        image = over(image, "black") if image.has_transparency_data else image
        return cls(np.asarray(image.convert("L")) >= HALF_GREY)

    @classmethod
    def read(cls, path: str | None) -> Mask:
        """Read a mask file.

        Raises:
            UserError: no file was named, there is none, or it is not a picture.
        """
        if path is None:
            raise UserError(
                "no --mask was given; expected a picture that is white where to repaint; add one"
            )
        image = open_image(path)
        with named(f"mask {path}"):
            mask = cls.of(image)
        return replace(mask, path=path, sha256=file_hash(path))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width = self.marked.shape
        return width, height

    def fit(self, given: tuple[int, int], fitted: tuple[int, int]) -> Mask:
        """Return the mask at the size of the picture that is repainted.

        Args:
            given: Width and height of the picture as it was given, in pixels.
            fitted: Width and height that it was resized to.

        Raises:
            UserError: the mask's aspect ratio differs from the picture's, or it marks nothing.
        """
        if not self.marked.any():
            raise UserError(
                f"the mask {self.path or 'of the picture'} marks nothing; expected some white, "
                "where to repaint; paint over the part to change"
            )
        notice = None if self.size in (given, fitted) else self._stretched(given)
        if self.size == fitted:
            return self
        (width, height), (new_width, new_height) = self.size, fitted
        rows, columns = _overlap(height, new_height), _overlap(width, new_width)
        return replace(self, marked=rows @ self.marked @ columns.T, notice=notice)

    def pad(self, size: tuple[int, int]) -> Mask:
        """Return the mask padded by reflection, as ``InitImage.pad`` pads pictures.

        Args:
            size: Width and height to reach, in pixels.
        """
        width, height = size
        return replace(self, marked=reflected(self.marked, height, width))

    def crop(self, size: tuple[int, int]) -> Mask:
        """Return the upper left part of the mask.

        Args:
            size: Its width and height, in pixels.
        """
        width, height = size
        return replace(self, marked=self.marked[:height, :width])

    def _stretched(self, given: tuple[int, int]) -> str:
        (w, h), (w0, h0) = self.size, given
        name = f"the mask {self.path or 'of the picture'} is {w}x{h}, the picture {w0}x{h0}"
        if abs(w * h0 - h * w0) > PROPORTION_TOLERANCE * w * h0:
            raise UserError(
                f"{name}; expected the same size, or at least the same proportions; "
                "make the mask from this picture"
            )
        return f"{name}: resized to fit."

    def cells(self, factor: int) -> np.ndarray:
        """Return the latent cells that marked pixels touch.

        Args:
            factor: Downsampling factor from picture to latent.

        Returns:
            bool (h, w).
        """
        height, width = self.marked.shape
        blocks = self.marked.reshape(height // factor, factor, width // factor, factor)
        return blocks.any(axis=(1, 3))

    def samples(self, factor: int) -> np.ndarray:
        """Return the mask at latent size as models are trained with it: one pixel of each block.

        Torch's nearest interpolation, as in the reference and in diffusers. Details finer
        than ``factor`` pixels can fall between the sampled pixels.

        Args:
            factor: Downsampling factor from picture to latent.

        Returns:
            bool (h, w).
        """
        return self.marked[::factor, ::factor]

    def restore(self, drawn: np.ndarray, original: np.ndarray) -> np.ndarray:
        """Return ``drawn`` (..., H, W, 3), its unmarked pixels those of ``original`` (H, W, 3)."""
        return np.where(self.marked[..., None], drawn, original)


def _overlap(old: int, new: int) -> np.ndarray:
    """Return bool (new, old): which of ``old`` pixels in a line overlap each of ``new``."""
    before, after = np.arange(old), np.arange(new)[:, None]
    return (before * new < (after + 1) * old) & ((before + 1) * new > after * old)

"""Repainting as AUTOMATIC1111 does it around the model: the area, the filled hole, the soft edge.

    picture, mask -> area -> both at the drawn size -> drawn -> back into the area, over a soft edge

The mask is grown by its blur, and what was drawn is laid over the picture with the blurred mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from apps.server.front.values import Unfit

Box = tuple[int, int, int, int]
RESIZES = ("just resize", "crop and resize", "resize and fill")
"""AUTOMATIC1111's resize modes by number; its fourth enlarges latents."""
_FAINT = 2  # of 255: what a blur leaves far away


def resized(image: Image.Image, size: tuple[int, int], mode: int) -> Image.Image:
    """Return a picture (RGB or L) brought to a width and height in one of ``RESIZES``."""
    lanczos = Image.Resampling.LANCZOS
    if mode == 0 or image.size == size:
        return image.resize(size, lanczos)
    if mode == 1:
        return ImageOps.fit(image, size, lanczos)
    inner = contained(image, size, lanczos)
    left, top = (size[0] - inner.width) // 2, (size[1] - inner.height) // 2
    rows = (top, size[1] - inner.height - top)
    columns = (left, size[0] - inner.width - left)
    pixels = np.asarray(inner)
    borders = (rows, columns, *(((0, 0),) if pixels.ndim == 3 else ()))
    return Image.fromarray(np.pad(pixels, borders, mode="edge"))


def contained(image: Image.Image, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Return a picture as large as it is within a size, in its own proportions."""
    scale = min(size[0] / image.width, size[1] / image.height)
    width, height = (max(1, round(side * scale)) for side in image.size)  # Pillow's own may be 0
    return image.resize((min(width, size[0]), min(height, size[1])), method)


def read_mask(image: Image.Image) -> Image.Image:
    """Return a mask (L): white is painted anew.

    As in AUTOMATIC1111's program, opaque parts are marked where a mask has transparent ones.
    """
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            return alpha.point([0] * 129 + [255] * 127)
    return image.convert("L").point([0] * 128 + [255] * 128)


def filled(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return a picture (RGB) whose marked part holds the colours around it, the nearer the sharper.

    Args:
        image: The picture.
        mask: L, of its size.
    """
    known = ImageOps.invert(mask)
    if known.getextrema()[1] == 0:
        return image
    seen = Image.composite(image, Image.new("RGB", image.size), known)
    mean = np.asarray(image)[np.asarray(known) > 0].mean(axis=0)
    colours = np.broadcast_to(mean, (*image.size[::-1], 3))
    radius = max(image.size) / 4
    while radius >= 1:
        blur = ImageFilter.GaussianBlur(radius)
        weight = np.asarray(known.filter(blur), dtype=np.float32)[..., None] / 255
        near = np.asarray(seen.filter(blur), dtype=np.float32) / np.maximum(weight, 1 / 255)
        share = np.minimum(1.0, 4 * weight)  # a quarter of what the blur sees is known
        colours, radius = colours * (1 - share) + near * share, radius / 4
    around = Image.fromarray(np.clip(colours, 0, 255).round().astype(np.uint8))
    return Image.composite(image, around, known)


def area_of(mask: Image.Image, padding: int, size: tuple[int, int]) -> Box:
    """Return the box around what is marked, with padding, in the proportions of ``size``.

    Args:
        mask: L; something in it is marked.
        padding: In pixels of the picture.
        size: Width and height that the area is drawn at.
    """
    left, top, right, bottom = mask.getbbox()
    left, top = max(left - padding, 0), max(top - padding, 0)
    right, bottom = min(right + padding, mask.width), min(bottom + padding, mask.height)
    ratio = size[0] / size[1]
    width = max(right - left, round((bottom - top) * ratio))
    height = max(bottom - top, round(width / ratio))
    left, right = _widened(left, right, width, mask.width)
    top, bottom = _widened(top, bottom, height, mask.height)
    return left, top, right, bottom


def _widened(low: int, high: int, length: int, end: int) -> tuple[int, int]:
    """Return an interval about the given one that is ``length`` long, or all from 0 to ``end``."""
    length = min(length, end)
    start = min(max(low - (length - (high - low)) // 2, 0), end - length)
    return start, start + length


@dataclass(frozen=True, eq=False)
class Repaint:
    """A picture of which a part is painted anew.

    Attributes:
        picture: RGB, of the finished size.
        soft: L, of its size: how much of what is drawn is seen there.
        area: What of it is drawn.
        size: Width and height that the area is drawn at.
        fill: Whether the marked part begins with the colours around it.
    """

    picture: Image.Image
    soft: Image.Image
    area: Box
    size: tuple[int, int]
    fill: bool = False

    @classmethod
    def of(cls, picture: Image.Image, mask: Image.Image, blur: float) -> Repaint:
        """Return the repainting of a whole picture.

        Args:
            picture: RGB.
            mask: L, of its size, black and white.
            blur: Standard deviation of the mask's edge, in pixels.

        Raises:
            Unfit: The mask marks nothing.
        """
        if mask.getbbox() is None:
            raise Unfit(
                "mask marks nothing; expected some white, where to paint; paint over a part", "mask"
            )
        if blur:
            blurred = mask.filter(ImageFilter.GaussianBlur(blur))
            # Half grey is where a straight edge was; inside of any, corners included, all is new.
            faded = blurred.point([0 if k <= _FAINT else min(255, 2 * k) for k in range(256)])
            mask = ImageChops.lighter(mask, faded)
        return cls(picture, mask, (0, 0, *picture.size), picture.size)

    def only_marked(self, padding: int, size: tuple[int, int]) -> Repaint:
        """Return this with the area around what is marked alone being drawn."""
        return replace(self, area=area_of(self.soft, padding, size), size=size)

    def parts(self) -> tuple[Image.Image, Image.Image]:
        """Return what is drawn from: a picture (RGB) and a mask (L) of ``size``."""
        lanczos = Image.Resampling.LANCZOS
        image = self.picture.crop(self.area).resize(self.size, lanczos)
        hard = self.soft.point([0] + [255] * 255)
        mask = hard.crop(self.area).resize(self.size, Image.Resampling.NEAREST)
        return (filled(image, mask) if self.fill else image), mask

    def finish(self, drawn: Image.Image) -> Image.Image:
        """Return the finished picture.

        Args:
            drawn: What was drawn of ``parts``, RGB.
        """
        left, top, right, bottom = self.area
        part = drawn.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        laid = self.picture.copy()
        laid.paste(part, (left, top), self.soft.crop(self.area))
        return laid

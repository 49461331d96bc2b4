"""Repaint a part of a picture at the picture's own size, or draw what lies around it.

    picture, mask -> canvas (outpaint) -> soft mask (blur) -> area (only masked) -> drawn size
                  -> drawn -> back into the area, over the soft edge -> the picture's own size

The mask is grown by its blur, and what was drawn is laid over the picture with the blurred mask:
inside the mask all is new, and where the blurred mask is black the pixels are the file's own.
Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from ldm.errors import UserError
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.masks import Mask
from ldm.pipelines.models import ModelChoice
from ldm.settings.inpaint import InpaintSettings

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""
MOST_RATIO = 4
"""Of the sides that an area is drawn at; a longer one is squeezed."""
_FAINT = 2  # of 255: what a blur leaves far away


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
        alpha: L, of the finished size: how opaque the picture was; None is entirely.
        is_area: Whether an area around the mask is drawn, at a size of its own.
    """

    picture: Image.Image
    soft: Image.Image
    area: Box
    size: tuple[int, int]
    fill: bool = False
    alpha: Image.Image | None = None
    is_area: bool = False

    @classmethod
    def of(cls, picture: Image.Image, mask: Image.Image, blur: float) -> Repaint:
        """Return the repainting of a whole picture.

        Args:
            picture: RGB.
            mask: L, of its size, black and white.
            blur: Standard deviation of the mask's edge, in pixels.

        Raises:
            UserError: The mask marks nothing.
        """
        if mask.getbbox() is None:
            raise UserError(
                "the mask marks nothing; expected some white, where to paint; paint over a part"
            )
        if blur:
            blurred = mask.filter(ImageFilter.GaussianBlur(blur))
            # Half grey is where a straight edge was; inside of any, corners included, all is new.
            faded = blurred.point([0 if k <= _FAINT else min(255, 2 * k) for k in range(256)])
            mask = ImageChops.lighter(mask, faded)
        return cls(picture, mask, (0, 0, *picture.size), picture.size)

    def only_marked(self, padding: int, size: tuple[int, int]) -> Repaint:
        """Return this with the area around what is marked alone being drawn."""
        return replace(self, area=area_of(self.soft, padding, size), size=size, is_area=True)

    def parts(self) -> tuple[Image.Image, Image.Image]:
        """Return what is drawn from: a picture (RGB) and a mask (L) of ``size``."""
        lanczos = Image.Resampling.LANCZOS
        image = self.picture.crop(self.area).resize(self.size, lanczos)
        # Not rounded: a cell is marked if any of it is, so that no thin stroke is lost.
        seen = self.soft.crop(self.area).convert("F").resize(self.size, Image.Resampling.BOX)
        mask = Image.fromarray((np.asarray(seen) > 0).astype(np.uint8) * 255)
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

    def opacity(self) -> np.ndarray | None:
        """Return the finished picture's alpha, uint8 (H, W): what is painted is opaque."""
        return None if self.alpha is None else np.asarray(ImageChops.lighter(self.alpha, self.soft))


def laid_out(image: InitImage, settings: InpaintSettings, choice: ModelChoice) -> InitImage:
    """Return what of a picture is drawn, where settings say more of its mask than where it is.

    Args:
        image: The picture as it was given, with its mask; with ``outpaint`` it may have none.
        settings: The run's.
        choice: The model, which has a size of its own.

    Raises:
        UserError: The mask marks nothing or does not fit, or the canvas is too large.
    """
    given, mask, alpha = image.pixels.size, image.mask, _alpha_of(image.pixels)
    if settings.only_masked is None and not settings.keeps_size:
        target = settings.target_size(given[::-1], choice.size, choice.multiple)
        image = replace(image, mask=None).fit(choice.multiple, target)
    image = replace(image, mask=_fitted(mask, settings, given, image.pixels.size))
    work, said = _work(image, settings, alpha), []
    if any(settings.margins):
        said.append("is drawn on to {}x{} pixels".format(*work.picture.size))
    if settings.only_masked is not None:
        size = _drawn_size(work, settings, choice)
        work = work.only_marked(settings.only_masked, size)
        left, top, right, bottom = work.area
        said.append(
            f"is {work.picture.width}x{work.picture.height}, of which {right - left}x"
            f"{bottom - top} around the mask are drawn, at {size[0]}x{size[1]}"
        )
    if work.alpha is not None and settings.format == "jpg":
        said.append("loses its transparency in a JPEG")
    name = image.path or "the picture"
    told = [image.notice, *(f"{name} {text}." for text in said)]
    drawn, marked = work.parts()
    mask = replace(image.mask, marked=np.asarray(marked) > 0)
    made = replace(image, pixels=drawn, mask=mask, notice=" ".join(filter(None, told)) or None)
    return replace(made.pad(choice.multiple), laid=work)


def _fitted(
    mask: Mask | None, settings: InpaintSettings, given: tuple[int, int], size: tuple[int, int]
) -> Mask:
    """Return the mask of a picture, inverted where that is asked for.

    Args:
        mask: As it was given; None is one that marks nothing.
        settings: The run's.
        given: Width and height of the picture as it was given.
        size: The same as it is now.
    """
    mask = mask or Mask(np.full(given[::-1], settings.invert_mask))
    if settings.invert_mask:
        mask = replace(mask, marked=~mask.marked)
    if any(settings.margins) and not mask.marked.any():
        return replace(mask, marked=np.zeros(size[::-1], bool))
    if settings.invert_mask and not mask.marked.any():
        raise UserError(
            f"the mask {mask.path or 'of the picture'} is white all over, and --invert_mask keeps "
            "what is white; expected some black, where to repaint; leave --invert_mask out"
        )
    return mask.fit(given, size)


def _alpha_of(picture: Image.Image) -> Image.Image | None:
    return picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None


def _work(image: InitImage, settings: InpaintSettings, opacity: Image.Image | None) -> Repaint:
    """Return the repainting of a whole picture, on a canvas as large as is asked for."""
    given = image.pixels
    alpha = None if opacity is None else np.asarray(opacity.resize(given.size))
    pixels, marked = np.asarray(given.convert("RGB")), image.mask.marked
    if any(settings.margins):
        left, top, right, bottom = settings.margins
        width, height = given.width + left + right, given.height + top + bottom
        if width * height > settings.max_pixels:
            raise UserError(
                f"--outpaint {settings.outpaint} was given for a picture of {given.width}x"
                f"{given.height}, which makes {width}x{height} pixels; expected at most "
                f"{settings.max_pixels}, the --max_pixels; give less"
            )
        sides = ((top, bottom), (left, right))
        pixels = np.pad(pixels, (*sides, (0, 0)), mode="edge")
        marked = np.pad(marked, sides, constant_values=True)
        alpha = None if alpha is None else np.pad(alpha, sides)
    mask = Image.fromarray(marked.astype(np.uint8) * 255)
    work = Repaint.of(Image.fromarray(pixels), mask, settings.blur)
    alpha = None if alpha is None else Image.fromarray(alpha)
    return replace(work, fill=settings.filling == "fill", alpha=alpha)


def _drawn_size(work: Repaint, settings: InpaintSettings, choice: ModelChoice) -> tuple[int, int]:
    """Return the width and height that the area around the mask is drawn at.

    The model's own number of pixels; a square, unless the picture is too narrow for one.
    """
    asked = getattr(settings, "W", None), getattr(settings, "H", None)
    if any(asked):
        return asked[0] or asked[1], asked[1] or asked[0]
    left, top, right, bottom = area_of(work.soft, settings.only_masked, (1, 1))
    ratio = min(max((right - left) / (bottom - top), 1 / MOST_RATIO), MOST_RATIO)
    sides = choice.size * ratio**0.5, choice.size / ratio**0.5
    width, height = (max(1, round(side / choice.multiple)) * choice.multiple for side in sides)
    return width, height

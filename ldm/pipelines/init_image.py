"""The picture that image-to-image and inpainting start from. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from ldm.digests import file_hash
from ldm.errors import UserError
from ldm.images.io import (
    TRANSPARENCY,
    fit_to_multiple,
    lost_as_rgb,
    open_image,
    upright_eight_bit,
    upright_rgb,
)
from ldm.images.opening import unused_of
from ldm.images.padding import reflected, round_up
from ldm.images.pixels import named
from ldm.pipelines.models import ModelChoice
from ldm.settings.generation import GenerationSettings

if TYPE_CHECKING:  # most pictures have none
    from ldm.pipelines.masks import Mask


class Laid(Protocol):
    """How what is drawn of a part is laid into a picture; see ``ldm.pipelines.only_masked``.

    Attributes:
        picture: The whole, RGB.
        soft: L, of its size: not black where it is changed.
        area: What of it is drawn: left, top, right and bottom, in pixels.
        is_area: Whether an area around the mask is drawn, at a size of its own.
    """

    picture: Image.Image
    soft: Image.Image
    area: tuple[int, int, int, int]
    is_area: bool

    def finish(self, drawn: Image.Image) -> Image.Image:
        """Return the whole with what was drawn, RGB."""

    def opacity(self) -> np.ndarray | None:
        """Return the whole's alpha, uint8 (H, W); None is opaque."""


@dataclass(frozen=True, eq=False)
class InitImage:
    """A picture to start from.

    Attributes:
        pixels: RGB.
        path: Where it was read, as the user gave it; empty for a picture from memory.
        sha256: Hash of the file, empty for a picture from memory.
        notice: Says what of the file is not used, and that the picture was resized or padded.
        mask: The part that inpainting repaints; None is the whole picture.
        unpadded: Width and height of the real picture within ``pixels``, from the upper left
            corner; the rest is padding. None if there is no padding.
        small: The picture before it was enlarged; None where it was not.
        laid: What ``pixels`` are an area of, and how what is drawn is laid back; None if they are
            the whole picture.
    """

    pixels: Image.Image
    path: str = ""
    sha256: str = ""
    notice: str | None = None
    mask: Mask | None = None
    unpadded: tuple[int, int] | None = None
    small: Image.Image | None = None
    laid: Laid | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels, of the pictures that are made from it."""
        return self.laid.picture.size if self.laid else self._own_size

    @property
    def _own_size(self) -> tuple[int, int]:
        return self.unpadded or self.pixels.size

    @classmethod
    def read(cls, path: str | None, *, transparent: bool = False) -> InitImage:
        """Read a picture file.

        Args:
            path: The file.
            transparent: Whether a picture that is not opaque is RGBA; else that is dropped.

        Raises:
            UserError: no file was named, there is none, or it is not a picture.
        """
        if path is None:
            raise UserError(
                "no --init-img was given; expected the picture to start from; "
                "add --init-img FILE (scripts/txt2img.py draws from text alone)"
            )
        image = open_image(path)
        lost = lost_as_rgb(image)
        if transparent and lost == TRANSPARENCY:
            with named(f"image {path}"):
                pixels, lost = upright_eight_bit(image).convert("RGBA"), None
        else:
            pixels = upright_rgb(image, path)
        said = " ".join(f"{text}." for text in unused_of(path, lost, "models draw"))
        return cls(pixels, path, file_hash(path), said or None)

    def fit(self, multiple: int, target: tuple[int, int] | None = None) -> InitImage:
        """Return the picture and its mask at a size that the model can draw.

        Args:
            multiple: What its sides must be multiples of, in pixels.
            target: Height and width to resize to; None rounds the sides down to multiples.
        """
        pixels, changed = self.pixels.convert("RGB"), True
        if target is None:
            pixels, changed = fit_to_multiple(pixels, multiple)
        elif changed := pixels.size != target[::-1]:
            pixels = pixels.resize(target[::-1], resample=Image.Resampling.LANCZOS)
        mask = None if self.mask is None else self.mask.fit(self.pixels.size, pixels.size)
        if not changed:
            return replace(self, pixels=pixels, mask=mask)
        (w0, h0), (w, h) = self.pixels.size, pixels.size
        name = self.path or "the picture"
        why = f"as sides must be multiples of {multiple}" if target is None else "as requested"
        text = f"{name} is {w0}x{h0}: resized to {w}x{h}, {why}."
        return replace(self, pixels=pixels, notice=self._with_notice(text), mask=mask)

    def enlarge(self, target: tuple[int, int]) -> InitImage:
        """Return the picture resized (Lanczos) to a height and width; its own are no change."""
        if self.pixels.size == target[::-1]:
            return self
        enlarged = self.pixels.convert("RGB").resize(target[::-1], Image.Resampling.LANCZOS)
        return replace(self, pixels=enlarged, small=self.pixels)

    def pad(self, multiple: int, verb: str = "is") -> InitImage:
        """Return the picture and its mask, padded by reflection to a size that fits the model.

        The mask is reflected too, so that the padding does not show what the mask hides.

        Args:
            multiple: What the sides must be multiples of, in pixels.
            verb: How the notice says that it has its size.
        """
        if self.unpadded is not None:  # already padded
            return self
        size = self.pixels.size
        mask = None if self.mask is None else self.mask.fit(size, size)
        width, height = padded = tuple(round_up(side, multiple) for side in size)
        if padded == size:
            return replace(self, pixels=self.pixels.convert("RGB"), mask=mask)
        pixels = Image.fromarray(reflected(np.asarray(self.pixels.convert("RGB")), height, width))
        text = (
            f"{self.path or 'the picture'} {verb} {size[0]}x{size[1]}: drawn at {width}x{height} "
            f"and cropped back, as the model needs sides that are multiples of {multiple}."
        )
        mask = None if mask is None else mask.pad(padded)
        notice = self._with_notice(text)
        return replace(self, pixels=pixels, mask=mask, notice=notice, unpadded=size)

    @property
    def notices(self) -> tuple[str, ...]:
        """What is to be said of it and of its mask."""
        own = (self.notice, self.mask and self.mask.notice)
        return tuple(text for text in own if text)

    def _with_notice(self, text: str) -> str:
        return f"{self.notice} {text}" if self.notice else text

    def restore(self, drawn: np.ndarray) -> np.ndarray:
        """Return drawn pictures without padding, with the original pixels outside the mask.

        Args:
            drawn: uint8 (B, H, W, 3) of the size of ``pixels``.

        Returns:
            uint8 (B, H0, W0, 3) of ``size``.
        """
        width, height = self._own_size
        drawn = drawn[:, :height, :width]
        if self.laid is not None:
            finished = map(self.laid.finish, map(Image.fromarray, drawn))
            return np.stack([np.asarray(each) for each in finished])
        if self.mask is None:
            return drawn
        return self.repainted.restore(drawn, np.asarray(self.pixels)[:height, :width])

    @property
    def repainted(self) -> Mask | None:
        """Where the finished pictures differ from this one; None is everywhere."""
        if self.laid is not None:
            return replace(self.mask, marked=np.asarray(self.laid.soft) > 0)
        return self.mask and self.mask.crop(self.size)

    @property
    def opacity(self) -> np.ndarray | None:
        """How opaque the finished pictures are, uint8 (H, W); None is entirely."""
        return self.laid and self.laid.opacity()


def read_init_image(
    settings: GenerationSettings,
    image: Image.Image | InitImage | None,
    mask: Image.Image | Mask | None,
) -> InitImage | None:
    """Return what a run starts from, with its mask, or None where that is noise alone.

    Args:
        settings: The run's; they name the files of what is not given.
        image: The picture to start from.
        mask: The part to repaint, in white.

    Raises:
        UserError: something needed is neither given nor named, or its file cannot be read.
        TypeError: an image or a mask was given to settings that take none.
    """
    kind = type(settings).__name__
    if mask is not None and not settings.takes_mask:
        raise TypeError(f"{kind} takes no mask; use InpaintSettings")
    if image is not None and settings.init == "none":
        raise TypeError(f"{kind} takes no init image; use Img2ImgSettings")
    if image is None and not settings.starts_from_picture:
        return None
    lays_out = settings.task == "mask" and settings.lays_out
    image = InitImage(image) if isinstance(image, Image.Image) else image
    image = image or InitImage.read(settings.init_img, transparent=lays_out)
    if not settings.takes_mask or (image.mask is not None and mask is None):
        return image
    from ldm.pipelines.masks import Mask

    mask = Mask.of(mask) if isinstance(mask, Image.Image) else mask
    if mask is None and settings.mask is None and lays_out and any(settings.margins):
        return image
    return replace(image, mask=mask or Mask.read(settings.mask))


def fit_init_image(
    image: InitImage, settings: GenerationSettings, choice: ModelChoice
) -> InitImage:
    """Return the picture at the size that the settings ask for and the model can draw.

    Raises:
        UserError: its size, or the requested one, is too large, or its mask does not fit.
    """
    width, height = image.pixels.size
    if settings.keeps_size:
        size = settings.size_before_padding((height, width), choice.size, choice.multiple)
        verb = "is" if size == (height, width) else "becomes"
        return image.enlarge(size).pad(choice.multiple, verb)
    target = settings.target_size((height, width), choice.size, choice.multiple)
    return image.fit(choice.multiple, target)

"""The picture that image-to-image and inpainting start from. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PIL import Image

from ldm.errors import UserError
from ldm.images.io import file_hash, fit_to_multiple, load_image
from ldm.pipelines.inpaint import InpaintSettings
from ldm.pipelines.masks import Mask
from ldm.pipelines.models import ModelChoice
from ldm.pipelines.settings import GenerationSettings, Img2ImgSettings


@dataclass(frozen=True, eq=False)
class InitImage:
    """A picture to start from.

    Attributes:
        pixels: RGB.
        path: Where it was read, as the user gave it; empty for a picture from memory.
        sha256: Hash of the file, empty for a picture from memory.
        remark: Says that the picture was resized, if it was.
        mask: What of it inpainting draws anew; None is all of it.
    """

    pixels: Image.Image
    path: str = ""
    sha256: str = ""
    remark: str | None = None
    mask: Mask | None = None

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

    def fit(self, multiple: int, target: tuple[int, int] | None = None) -> InitImage:
        """Return the picture, and so its mask, at a size that the model can draw.

        Args:
            multiple: What its sides must be multiples of, in pixels.
            target: Height and width to resize it to; None is the next smaller multiples.
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
        why = f"as sides must be multiples of {multiple}" if target is None else "as asked"
        text = f"{name} is {w0}x{h0}: resized to {w}x{h}, {why}."
        return replace(self, pixels=pixels, remark=text, mask=mask)


def first_picture(
    settings: GenerationSettings,
    image: Image.Image | InitImage | None,
    mask: Image.Image | Mask | None,
) -> InitImage | None:
    """Return what a run starts from, with its mask, or None where that is noise alone.

    Args:
        settings: The run's; they name the files of what is not given.
        image: The picture to start from.
        mask: What of it to draw anew: white is.

    Raises:
        UserError: something is needed and neither given nor named, or its file cannot be read.
        TypeError: something was given that pictures of this kind do not start from.
    """
    kind = type(settings).__name__
    if mask is not None and not isinstance(settings, InpaintSettings):
        raise TypeError(f"{kind} take no mask; use InpaintSettings")
    if not isinstance(settings, Img2ImgSettings):
        if image is not None:
            raise TypeError(f"{kind} start from no image; use Img2ImgSettings")
        return None
    image = InitImage(image) if isinstance(image, Image.Image) else image
    image = image or InitImage.read(settings.init_img)
    if not isinstance(settings, InpaintSettings):
        return image
    mask = Mask.of(mask) if isinstance(mask, Image.Image) else mask
    return replace(image, mask=mask or Mask.read(settings.mask))


def fit_first_picture(
    image: InitImage, settings: Img2ImgSettings, choice: ModelChoice
) -> InitImage:
    """Return the picture at the size that the settings ask for and the model can draw.

    Raises:
        UserError: its size, or the one asked for, cannot be meant.
    """
    width, height = image.pixels.size
    target = settings.target_size((height, width), choice.size, choice.multiple)
    return image.fit(choice.multiple, target)

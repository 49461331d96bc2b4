"""What the controls of a run are shown of their pictures, and those hints as pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageOps

from ldm.adapters.control.hints import Picture as Hint
from ldm.adapters.control.hints import hint_tensor, inpaint_values
from ldm.errors import UserError
from ldm.images.io import open_image, upright_rgb
from ldm.pipelines.adapter_plan import PlannedControl
from ldm.pipelines.masks import Mask
from ldm.pipelines.progress import Picture
from ldm.pipelines.request import Request
from ldm.settings.adapters import PICTURE, PLAIN, REFERENCE, STYLE
from ldm.settings.hints import HINTS

INPAINT = "inpaint"
_DRAWN = (PLAIN, "t2i")
_AS_IT_IS = (*_DRAWN, STYLE, PICTURE)


@dataclass(frozen=True)
class Area:
    """What of a picture is drawn, where that is not all of it.

    Attributes:
        box: Left, top, right and bottom, in pixels.
        whole: Width and height of the picture.
    """

    box: tuple[int, int, int, int]
    whole: tuple[int, int]

    def of(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Return a picture's part at a size (H, W); as it is if it is of another size."""
        if picture.size != self.whole:
            return picture
        return picture.crop(self.box).resize(size[::-1], Image.Resampling.LANCZOS)


def area_of(request: Request) -> Area | None:
    """Return what a request draws of a picture; None if that is all of it."""
    laid = None if request.image is None else request.image.laid
    if laid is None or laid.area == (0, 0, *laid.picture.size):
        return None
    return Area(laid.area, laid.picture.size)


def shown(
    control: PlannedControl, size: tuple[int, int], mask: Mask | None, area: Area | None = None
) -> Hint:
    """Return what a network is shown: the picture itself, or a hint made of it.

    Args:
        control: What is wanted.
        size: Height and width of the pictures that are drawn.
        mask: What inpainting repaints, of that size.
        area: What of a picture is drawn: of one as large, the network is shown the same part.

    Raises:
        UserError: The picture cannot be read, or no hint of that kind can be made here.
    """
    kind, image = control.wish.kind, control.wish.image
    if kind in _AS_IT_IS:
        picture = opened(image)
        return area.of(picture, size) if area and kind in _DRAWN else picture
    if kind == INPAINT:
        return _unpainted(image, size, mask, area)
    if kind == REFERENCE:
        return _fitting(image, size, area)
    from ldm.hints.make import make_hint

    needed = [n for n, v in HINTS[kind].defaults.items() if v is None and n != "mask"]
    if set(needed) - set(HINTS[kind].optional):
        raise UserError(
            f"--control {kind}=...:{image} was given; a hint of that kind is made by a network "
            f"from a folder; make it with scripts/hint.py --kind {kind} --model FOLDER, and "
            f"give {PLAIN}=...:FILE with what it wrote"
        )
    return make_hint(kind, _fitting(image, size, area))


def _fitting(image: str, size: tuple[int, int], area: Area | None) -> Image.Image:
    picture = opened(image)
    return at_size(area.of(picture, size) if area else picture, size)


def _unpainted(image: str, size: tuple[int, int], mask: Mask | None, area: Area | None) -> Hint:
    """Return a picture with -1 where it is to be painted: under the mask, or transparent."""
    picture = open_image(image)
    fitted = _fitting(image, size, area)
    if mask is not None:
        painted = Image.fromarray(mask.marked).convert("L")
        painted = painted.resize(fitted.size, Image.Resampling.NEAREST)
    elif picture.has_transparency_data:
        alpha = ImageOps.exif_transpose(picture).convert("RGBA").getchannel("A")
        painted = ImageOps.invert(at_size(alpha, size))
    else:
        raise UserError(
            f"--control {INPAINT}=...:{image} was given without anything to paint; expected a "
            "mask, by scripts/inpaint.py, or a picture that is transparent there; give one"
        )
    return inpaint_values(fitted, painted)


def at_size(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a picture at a size (H, W) that is drawn, what stands over cut off."""
    height, width = size
    if picture.size == (width, height):
        return picture
    return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)


def opened(path: str) -> Image.Image:
    """Return a picture, upright and in RGB."""
    return upright_rgb(open_image(path), path)


def hint_pictures(request: Request) -> Iterator[Picture]:
    """Yield what each control of a request is shown, in the order of the flags.

    Raises:
        UserError: As ``shown``.
    """
    mask = None if request.image is None else request.image.mask
    place = request.batches[0].places[0]
    area = area_of(request)
    for control in request.adapters.controls:
        if control.wish.image:
            hint = hint_tensor(shown(control, request.size, mask, area))[0].clamp(0, 1)  # (3, H, W)
            pixels = (255 * hint).round().byte().movedim(0, -1).numpy()
            seed = request.settings.seed
            yield Picture(pixels, pixels, str(control.wish), seed, place, "", drawn=False)

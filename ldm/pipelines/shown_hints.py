"""What the controls of a run are shown of their pictures, and those hints as pictures."""

from __future__ import annotations

from collections.abc import Iterator

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
_AS_IT_IS = (PLAIN, "t2i", STYLE, PICTURE)


def shown(control: PlannedControl, size: tuple[int, int], mask: Mask | None) -> Hint:
    """Return what a network is shown: the picture itself, or a hint made of it.

    Args:
        control: What is wanted.
        size: Height and width of the pictures that are drawn.
        mask: What inpainting repaints, of that size.

    Raises:
        UserError: The picture cannot be read, or no hint of that kind can be made here.
    """
    kind, image = control.wish.kind, control.wish.image
    if kind in _AS_IT_IS:
        return opened(image)
    if kind == INPAINT:
        return _unpainted(image, size, mask)
    if kind == REFERENCE:
        return at_size(opened(image), size)
    from ldm.hints.make import make_hint

    needed = [n for n, v in HINTS[kind].defaults.items() if v is None and n != "mask"]
    if set(needed) - set(HINTS[kind].optional):
        raise UserError(
            f"--control {kind}=...:{image} was given; a hint of that kind is made by a network "
            f"from a folder; make it with scripts/hint.py --kind {kind} --model FOLDER, and "
            f"give {PLAIN}=...:FILE with what it wrote"
        )
    return make_hint(kind, at_size(opened(image), size))


def _unpainted(image: str, size: tuple[int, int], mask: Mask | None) -> Hint:
    """Return a picture with -1 where it is to be painted: under the mask, or transparent."""
    picture = open_image(image)
    fitted = at_size(upright_rgb(picture, image), size)
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
    for control in request.adapters.controls:
        if control.wish.image:
            hint = hint_tensor(shown(control, request.size, mask))[0].clamp(0, 1)  # (3, H, W)
            pixels = (255 * hint).round().byte().movedim(0, -1).numpy()
            seed = request.settings.seed
            yield Picture(pixels, pixels, str(control.wish), seed, place, "", drawn=False)

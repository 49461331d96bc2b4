"""Let Pillow look at a picture: the one place where that happens; which kinds, and how large.

Pillow knows dozens of formats. Some of its readers start other programs (Ghostscript for EPS) or
have seen little use; a file's name does not say what it holds. So the formats are named here.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from ldm.budgets import PICTURE_BYTES, PIXELS, PNG_CHUNKS
from ldm.errors import UserError
from ldm.paths import exists, is_file

KINDS = "PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF and PPM"
PICTURE_ENDINGS = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".avif")
)
"""In lower case; files may have them in any case."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]
with contextlib.suppress(ImportError):  # Pillow has it from 11.3 on
    from PIL import AvifImagePlugin  # noqa: F401

    _FORMATS.append("AVIF")
_REGISTERED = TiffImagePlugin, WebPImagePlugin  # by being imported; Pillow does so with the others
BEYOND = "what it has beyond 8 bits"
FIRST_ALONE = "holds several pictures: the first one is used"
"""What is said of an animation, after its path."""
_AT_ONCE = 2**24  # bytes of a file that are read into memory
# In the environment, so that processes that this one starts to read pictures know it too.
_LIMIT = "LDM_MAX_PIXELS"


class TooLarge(UserError):
    """A picture has more pixels, or its file more bytes or chunks, than is read."""


def allow_pixels(most: int) -> None:
    """Set how many pixels a picture may have that this process and its children read."""
    os.environ[_LIMIT] = str(most)


def most_pixels() -> int:
    """Return how many pixels a picture may have: width times height."""
    return int(os.environ.get(_LIMIT, PIXELS))


@contextlib.contextmanager
def opened(source: str | Path | bytes) -> Iterator[Image.Image]:
    """Open a picture; nothing but its header is read before ``load``.

    Args:
        source: A file's path, or its bytes.

    Raises:
        TooLarge: It has more than ``most_pixels()``; the message begins after the picture's name.
        UserError: It is none of ``KINDS``; likewise.
        Exception: The file cannot be opened; a damaged one makes Pillow raise almost anything.
    """
    with _file(source) as file, warnings.catch_warnings():
        _check_chunks(file)
        warnings.simplefilter("ignore")  # about size and broken EXIF: both are harmless
        image = _opened(file)
        with image:
            check_size(*image.size)
            yield image


def redecoded(data: bytes) -> Image.Image:
    """Return the picture that a file of this process's own making shows, of any size."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        image.load()
        return image


def _file(source: str | Path | bytes) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if exists(source) and not is_file(source):
        raise UserError("is no ordinary file; expected a picture file; check the path")
    file = open(source, "rb")  # noqa: SIM115 - the caller closes it
    size = os.fstat(file.fileno()).st_size
    if size <= _AT_ONCE:  # thousands of tiny chunks are then no thousands of calls of the system
        with file:
            return io.BytesIO(file.read(size))
    if size <= PICTURE_BYTES:
        return file
    file.close()
    raise TooLarge(
        f"has {size >> 20} MB; expected a file of at most {PICTURE_BYTES >> 20} MB; make it smaller"
    )


def _check_chunks(file: IO[bytes]) -> None:
    """Refuse a PNG of hundreds of thousands of chunks: Pillow looks at each for a long time."""
    if file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE:
        chunks = 0
        while len(header := file.read(8)) == 8:
            chunks += 1
            position = file.seek(int.from_bytes(header[:4], "big") + 4, os.SEEK_CUR)
            if chunks > PNG_CHUNKS + position / 1024:
                raise TooLarge(
                    f"holds more than {PNG_CHUNKS} chunks in its first {position >> 10} KB; "
                    "expected a PNG picture, which has dozens; save it anew"
                )
    file.seek(0)


def _opened(file: IO[bytes]) -> Image.Image:
    most = most_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and most > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = most  # who raises our limit means Pillow's as well
    try:
        return Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise UserError(
            f"cannot be read (it is of no known kind, damaged or empty); {KINDS} are read; "
            "check the file or convert it"
        ) from error
    except Image.DecompressionBombError as error:
        pixels = re.search(r"\d+", str(error))  # Pillow's words speak of an attack, and its limit
        shown = f" ({int(pixels[0]) // 10**6} megapixels)" if pixels else ""
        raise TooLarge(f"is too large{shown}; {_allowed()}") from error


def holds_several(path: str | Path) -> bool:
    """Check for a second picture; to count them all would take as long as a file likes."""
    try:
        with opened(path) as image:
            # The further pictures of a phone's MPO are previews and depth, which nobody asks for.
            return image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception:  # faults in its metadata, which reading the pixels leaves out
        return False


def unused_of(
    path: str | Path, lost: str | None, who: str = "networks make", called: str | None = None
) -> list[str]:
    """Say what of a picture file is not used where 8-bit RGB is made, one sentence each.

    Args:
        path: The file.
        lost: What of its pixels is dropped, of ``ldm.images.io.lost_as_rgb``; None is nothing.
        who: Makes 8-bit RGB.
        called: What the sentences call the file; None is its path.
    """
    name = called or path
    dropped = list(filter(None, [lost, BEYOND if lost != BEYOND and _is_deep(path) else None]))
    verb = "are" if len(dropped) > 1 else "is"
    said = (
        [f"{name}: {' and '.join(dropped)} {verb} dropped, as {who} 8-bit RGB"] if dropped else []
    )
    return [*said, f"{name} {FIRST_ALONE}"] if holds_several(path) else said


def _is_deep(path: str | Path) -> bool:
    """Check for colours of 16 bits, which Pillow tells before it reads them as 8."""
    try:
        with opened(path) as image:
            return any(";16" in str(tile[3]) for tile in image.tile)
    except Exception:  # as above
        return False


def check_size(width: int, height: int) -> None:
    """Check a picture's size, in pixels.

    Raises:
        TooLarge: It has more than ``most_pixels()``; the message begins after the picture's name.
    """
    if width * height > most_pixels():
        millions = f"{width * height / 1e6:.4g} megapixels"
        raise TooLarge(f"is too large ({width}x{height}, {millions}); {_allowed()}")


def _allowed() -> str:
    most = most_pixels()
    shown = f"{most / 1e6:.4g} megapixels" if most >= 1e5 else f"{most} pixels"
    return f"expected at most {shown}; make it smaller, or raise that with --max_pixels"


def restrict_pillow() -> None:
    """Hold Pillow itself, in this process, to the kinds and the size that are read.

    For libraries that open pictures themselves, as gradio does with what is uploaded.
    """
    Image.init()  # or Pillow would load its other formats at the first file that it does not know
    for name in set(Image.OPEN) - {*_FORMATS}:
        del Image.OPEN[name]
    Image.ID[:] = [name for name in Image.ID if name in Image.OPEN]
    Image.MAX_IMAGE_PIXELS = most_pixels() // 2  # it warns above that, and refuses above twice that

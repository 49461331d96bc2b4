"""Open a picture's pixels whatever is wrong with its metadata, and reduce them to 8 bits.

Pillow refuses a whole PNG for one text that is too long or one damaged chunk beside the pixels.
Here such chunks are left out and named. Deep pictures are never black without a word.
"""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, PngImagePlugin

from ldm.errors import UserError
from ldm.images.opening import KINDS, PNG_SIGNATURE, TooLarge, opened, restrict_pillow
from ldm.paths import reason

logger = logging.getLogger(__name__)
_END = b"IEND"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PROFILE = b"iCCP"
# What may stay beside the pixels; private chunks go.
_KEPT = (*_TEXTS, _PROFILE, b"tRNS", b"eXIf", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"tIME")
_LONGEST = PngImagePlugin.MAX_TEXT_CHUNK  # bytes, unpacked
# The largest value of a picture that uses its range. Below these, white cannot be told.
_BRIGHT_8, _BRIGHT_16 = 32, 8192
_ROUNDING = 1.05  # resampling overshoots white by a little


def open_pixels(
    source: str | Path | bytes, prepare: Callable[[Image.Image], None] | None = None
) -> tuple[Image.Image, list[str]]:
    """Open and fully decode a picture, as it is stored.

    Args:
        source: A file's path, or its bytes.
        prepare: Called with the opened picture before its pixels are decoded.

    Returns:
        The picture, and what of its metadata was left out, in words: usually nothing.

    Raises:
        UserError: It is of no kind that is read, or too large; the message begins after the
            picture's name.
        Exception: The pixels cannot be read; a decoder raises almost anything.
    """
    try:
        return _decoded(source, prepare), []
    except (TooLarge, FileNotFoundError, MemoryError):
        raise
    except Exception as error:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        if not data.startswith(PNG_SIGNATURE):
            raise
        rest, lost = without_faults(data)
        try:
            return _decoded(rest, prepare), lost
        except Exception:  # it is the pixels: the first reason is the one to tell
            raise error from None


def tolerate_faults() -> None:
    """Make Pillow itself leave out faulty metadata of PNG files, in this process.

    It also reads nothing else than ``open_pixels`` does from then on: for libraries that open
    pictures themselves, as gradio does with what is uploaded.
    """
    restrict_pillow()
    Image.register_open("PNG", _open_png, lambda prefix: prefix.startswith(PNG_SIGNATURE))


def _open_png(file: IO[bytes], filename: str = "") -> PngImagePlugin.PngImageFile:
    rest, _ = without_faults(file.read())
    return PngImagePlugin.PngImageFile(io.BytesIO(rest), filename)


def _decoded(
    source: str | Path | bytes, prepare: Callable[[Image.Image], None] | None
) -> Image.Image:
    with opened(source) as image:
        if prepare is not None:
            prepare(image)
        image.load()
        return image


def without_faults(data: bytes) -> tuple[bytes, list[str]]:
    """Return a PNG file's bytes without metadata that cannot be read, and what that was."""
    kept, lost, room = [PNG_SIGNATURE], [], PngImagePlugin.MAX_TEXT_MEMORY
    for kind, chunk, fault in _chunks(data):
        if kind in (*_TEXTS, _PROFILE) and fault is None:
            length, fault = _unpacked(kind, chunk[8:-4])
            room -= length
            fault = fault or ("is too long with the others" if room < 0 else None)
        # The pixels' own chunks stay as they are: if they are damaged, the decoder says so.
        if kind[:1].isupper() or (fault is None and kind in _KEPT):
            kept.append(chunk)
        elif fault is not None:
            lost.append(f"{_name(kind, chunk)} {fault} and is left out")
    if kept[-1][4:8] != _END:
        kept.append(_chunk(_END))
    return b"".join(kept), lost


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, str | None]]:
    """Yield each chunk's kind, its bytes with length and checksum, and what is wrong with it."""
    position = len(PNG_SIGNATURE)
    while position + 8 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        chunk = data[position:end]
        fault = None
        if end > len(data):
            fault = "is cut short"
        elif zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            fault = "is damaged"
        yield chunk[4:8], chunk, fault
        position = end


def _chunk(kind: bytes) -> bytes:
    return bytes(4) + kind + zlib.crc32(kind).to_bytes(4, "big")


def _unpacked(kind: bytes, body: bytes) -> tuple[int, str | None]:
    """Return the length of a text or a colour profile in bytes, and what is wrong with it."""
    _, _, rest = body.partition(b"\0")
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] != b"\1"):
        return len(body), None
    # An international text has its compression's mark and method, and two names.
    packed = rest[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else rest[1:]
    unpacker = zlib.decompressobj()
    try:
        length = len(unpacker.decompress(packed, _LONGEST))
    except zlib.error:
        return 0, "is damaged"
    too_long = bool(unpacker.unconsumed_tail)
    return length, f"is longer than {_LONGEST >> 20} MB unpacked" if too_long else None


def _name(kind: bytes, chunk: bytes) -> str:
    if kind == _PROFILE:
        return "its colour profile"
    if kind in _TEXTS:
        return f"its text {chunk[8:].partition(bytes(1))[0][:79].decode('latin-1')!r}"
    return f"its {kind.decode('latin-1')} chunk"


def eight_bit(image: Image.Image) -> Image.Image:
    """Reduce a deep greyscale picture to 8 bits; Pillow's own conversion would clip it.

    White is 1, 255 or 65535: the one that the largest value suits.

    Args:
        image: Any mode; others than "I", "I;16" and "F" are returned as they are.

    Raises:
        UserError: The values suit none of these; the message begins after the picture's name.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    low, high = values.min(initial=0), values.max(initial=0)
    if image.mode == "F":
        return Image.fromarray(_from_numbers(values, low, high))
    if high < 256 and low >= 0:  # also in 16-bit files: masks of 0 and 255 are written so
        return Image.fromarray(values.astype(np.uint8))
    # Where the format says that white is 65535, a small largest value is a dark picture.
    sixteen = image.mode != "I" or image.format == "PPM"
    if low >= 0 and (_BRIGHT_16 <= high < 65536 or sixteen):
        return Image.fromarray((np.clip(values, 0, 65535) // 257).astype(np.uint8))
    raise _no_range(low, high)


def _from_numbers(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Turn floats (H, W) into uint8, rounded."""
    if not np.isfinite(values).all():
        raise UserError(
            "holds NaN or infinite values; finite numbers from 0 to 1 are expected; convert it"
        )
    if low < 1.0 - _ROUNDING:
        raise _no_range(low, high)
    for white, least in ((1.0, 0.0), (255.0, _BRIGHT_8), (65535.0, _BRIGHT_16)):
        if least <= high <= white * _ROUNDING:
            unit = (values.astype(np.float32) / white).clip(0.0, 1.0)
            return (255.0 * unit).round().astype(np.uint8)
    raise _no_range(low, high)


def _no_range(low: float, high: float) -> UserError:
    return UserError(
        f"holds numbers from {low:g} to {high:g}, so its white is not known; numbers from 0 to 1, "
        "to 255 or to 65535 are expected; scale them"
    )


def decoded(source: Path | bytes, what: str) -> Image.Image:
    """Fully decode a picture, as it is stored.

    Args:
        source: A file's path, or its bytes.
        what: What it is called in messages.

    Raises:
        UserError: It is too large, or Pillow cannot decode it.
    """
    with named(what):
        try:
            image, lost = open_pixels(source)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # a damaged file makes a decoder raise almost anything
            raise UserError(
                f"cannot be read ({reason(error)}); a whole file is expected ({KINDS} are read); "
                "check the file or convert it"
            ) from error
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        logger.warning("%s: %s%s", what, lost[0], more)
    return image


@contextmanager
def named(what: str) -> Iterator[None]:
    """Put a picture's name before what is wrong with it.

    Raises:
        UserError: The block raised one, or the picture takes more memory than there is.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{what} {error}") from error
    except MemoryError as error:
        raise UserError(
            f"{what} takes more memory than there is; expected a picture that fits into it; "
            "make it smaller"
        ) from error


def over(image: Image.Image, colour: str) -> Image.Image:
    """Return a picture as RGB, with a colour behind what is transparent in it.

    Colours under transparent pixels are often black or leftovers, so they must not show.

    Args:
        image: Of any mode that Pillow converts to RGB; it is not changed, and returned as it is
            if it is opaque RGB.
        colour: A name or value that Pillow knows.

    Example:
        >>> over(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "white").getpixel((0, 0))
        (255, 255, 255)
    """
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, colour), image)
    return image if image.mode == "RGB" else image.convert("RGB")

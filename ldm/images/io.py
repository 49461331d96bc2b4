"""Read, save and convert pictures: files, arrays and tensors. Every function states its range.

Shape legend: B pictures, 3 channels (RGB), H W pixels. "uint8" is 0..255, "model range" [-1, 1].
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ldm.atomic import part_beside
from ldm.errors import UserError
from ldm.images.embed import save_options
from ldm.images.opening import BEYOND, KINDS, redecoded
from ldm.images.pixels import decoded, eight_bit, named
from ldm.paths import ERRORS, exists, file_fault, listing, reason, remove

if TYPE_CHECKING:  # programs that only read or write pictures need no torch, slow to import
    import torch

logger = logging.getLogger(__name__)

TRANSPARENCY = "its transparency"
FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG"}
# The invisible watermark is in the chroma; it survives quality 95 without chroma subsampling.
_JPEG_OPTIONS = {"quality": 95, "subsampling": 0}
_JPEG_LARGEST_SIDE = 65500  # pixels


def open_image(path: str | Path) -> Image.Image:
    """Open and fully decode a picture file, as it is stored.

    Raises:
        UserError: The file does not exist, is too large, or Pillow cannot decode it.
    """
    path = Path(path)
    if fault := file_fault(path):
        raise UserError(f"image {path} {fault}; give the path of a picture file ({KINDS} are read)")
    return decoded(path, f"image {path}")


def load_image(path: str | Path) -> Image.Image:
    """Load a picture as 8-bit RGB, upright.

    As in the reference, transparency is dropped (the colours under it show). Unlike the reference,
    an EXIF orientation tag is applied, so that a phone's photo is not on its side; only files with
    the tag change.

    Raises:
        UserError: There is no such file, it is not a picture, or it holds numbers whose white
            cannot be told.
    """
    return upright_rgb(open_image(path), path)


def upright_rgb(image: Image.Image, path: str | Path) -> Image.Image:
    """Turn a picture as its file stores it into what ``load_image`` returns.

    Raises:
        UserError: It holds numbers whose white cannot be told.
    """
    with named(f"image {path}"):
        return upright_eight_bit(image).convert("RGB")


def lost_as_rgb(image: Image.Image) -> str | None:
    """Describe what ``load_image`` drops of a picture as it is stored; None if it drops nothing."""
    if image.has_transparency_data and _sees_through(image):
        return TRANSPARENCY
    if image.mode.startswith(("I", "F")):
        return BEYOND
    plain = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
    return None if image.mode in plain else f"its colour space ({image.mode})"


def _sees_through(image: Image.Image) -> bool:
    """Check whether any pixel is not opaque: many programs write an alpha channel of 255s."""
    return image.convert("RGBA").getchannel("A").getextrema()[0] < 255


def upright_eight_bit(image: Image.Image) -> Image.Image:
    """Return a picture rotated as its EXIF data say, with deep greyscale reduced to 8 bits.

    Raises:
        UserError: As ``ldm.images.pixels.eight_bit``.
    """
    return eight_bit(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image  # exif_transpose would copy it
        return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception as error:  # broken EXIF data does not make the pixels unusable
        logger.debug("orientation ignored: %s", error)
        return image


def fit_to_multiple(image: Image.Image, multiple: int = 64) -> tuple[Image.Image, bool]:
    """Resize (Lanczos) so that both sides are multiples of ``multiple``, rounding down.

    Returns:
        The picture, at least ``multiple`` on each side, and whether its size has changed.
    """
    size = tuple(max(multiple, side - side % multiple) for side in image.size)
    if size == image.size:
        return image, False
    return image.resize(size, resample=Image.Resampling.LANCZOS), True


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Turn an RGB picture into a float32 tensor (1, 3, H, W) in the model range [-1, 1].

    The arithmetic is the reference's: float32 division by 255, then 2x - 1.
    """
    import torch  # here so that saving and reading pictures does not import it

    unit = np.asarray(image.convert("RGB")).astype(np.float32) / 255.0  # (H, W, 3)
    chw = np.ascontiguousarray(unit.transpose(2, 0, 1))  # (3, H, W)
    return 2.0 * torch.from_numpy(chw)[None] - 1.0


def check_finite(
    x: torch.Tensor,
    what: str = "picture",
    advice: Callable[[], str] = lambda: "compute in float32, and check the checkpoint",
) -> None:
    """Check that every value of a batch is finite.

    Args:
        x: (B, ...), any dtype; not modified.
        what: What one row is called in the message.
        advice: Says what the user can do; called only if there is something to do.

    Raises:
        UserError: A row holds NaN or infinity, as half precision can produce on some GPUs.
    """
    bad = (~x.isfinite()).flatten(1)
    if not bad.any():
        return
    rows = bad.any(1).nonzero().flatten().tolist()
    numbers = ", ".join(str(row + 1) for row in rows)
    share = bad[rows].float().mean().item()
    raise UserError(
        f"{what} {numbers} of {len(x)} came out with NaN or infinite values ({share:.0%} of them); "
        f"finite numbers are expected; {advice()}"
    )


def to_uint8(x: torch.Tensor, *, rounded: bool = False) -> np.ndarray:
    """Turn decoded pictures into bytes with the reference's arithmetic, to the bit.

    ``(x + 1) / 2`` and the clamp to [0, 1] happen in x's own dtype on its device, ``255 * x`` in
    numpy in that same dtype (float16 stays float16), and the result is truncated, not rounded.
    numpy has no bfloat16, so that dtype is widened to float32 first.

    Args:
        x: (B, 3, H, W) in [-1, 1], values beyond are clamped; not modified.
        rounded: Round instead of truncating: what the reference shows to its safety checker.

    Returns:
        uint8 (B, H, W, 3).

    Raises:
        UserError: x holds NaN or infinity.
    """
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"pictures of shape {tuple(x.shape)}; (B, 3, H, W) is expected")
    check_finite(x)
    x = x.detach()
    if str(x.dtype) == "torch.bfloat16":
        x = x.float()
    unit = ((x + 1.0) / 2.0).clamp(0.0, 1.0)
    scaled = 255.0 * unit.permute(0, 2, 3, 1).cpu().numpy()  # (B, H, W, 3)
    return (scaled.round() if rounded else scaled).astype(np.uint8)


def next_index(folder: str | Path, pattern: str) -> int:
    """Return the number after the highest one in use, 0 for an empty or missing folder.

    Args:
        folder: Where the numbered files are.
        pattern: A file name with one ``str.format`` field, such as ``"{:05d}"`` or
            ``"grid-{:04d}.png"``. The extension is ignored, so that a run that writes JPEG does
            not reuse the numbers of one that wrote PNG.
    """
    stem = _stem(pattern)
    before, after = re.split(r"\{[^{}]*\}", stem)
    numbered = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
    found = [
        int(match[1])
        for name in (path.name for path in listing(folder))
        # 7.png is not in the series 00007.png: only names that the pattern produces count
        if (match := numbered.fullmatch(_stem(name))) and stem.format(int(match[1])) == _stem(name)
    ]
    return max(found, default=-1) + 1


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def encode_picture(
    picture: np.ndarray,
    file_format: str,
    metadata: str | None = None,
    *,
    synthetic: bool = True,
    said: Mapping[str, Any] | None = None,
) -> bytes:
    """Encode a picture as the bytes of a file.

    Args:
        picture: uint8 (H, W, 3), RGB, or (H, W, 4) with its opacity, which JPEG does not hold.
        file_format: "png", "jpg" or "jpeg".
        metadata: The ``parameters`` text to embed, if any.
        synthetic: Whether a model has drawn it; the file then carries the mark, and ``metadata``.
        said: What the file says instead of that, as keyword arguments of Pillow's writer.

    Raises:
        UserError: The format is none of these.
    """
    if file_format not in FORMATS:
        raise UserError(f"image format {file_format!r}; expected one of: {', '.join(FORMATS)}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (3, 4):
        given = f"{picture.dtype} {picture.shape}"
        raise ValueError(f"a picture of {given}; uint8 (H, W, 3) is expected")
    name = FORMATS[file_format]
    picture = picture[..., :3] if name == "JPEG" else picture
    if name == "JPEG" and max(picture.shape) > _JPEG_LARGEST_SIDE:
        raise UserError(
            f"a picture of {picture.shape[1]}x{picture.shape[0]} pixels; JPEG holds at most "
            f"{_JPEG_LARGEST_SIDE} on a side; use --format png"
        )
    if said is None:
        said = save_options(name, metadata) if synthetic else {}
    options = {**said, **(_JPEG_OPTIONS if name == "JPEG" else {})}
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format=name, **options)
    return buffer.getvalue()


def after_saving(picture: np.ndarray, file_format: str) -> np.ndarray:
    """Return the pixels that a reader of the saved file gets: exact for PNG, close for JPEG."""
    if FORMATS.get(file_format) == "PNG":
        return picture
    return np.array(redecoded(encode_picture(picture, file_format)).convert("RGB"))


def save_picture(
    picture: np.ndarray,
    path: str | Path,
    *,
    metadata: str | None = None,
    format: str | None = None,
    synthetic: bool = True,
) -> Path:
    """Save a picture completely or not at all, and never over an existing file.

    Args:
        picture: uint8 (H, W, 3), RGB.
        path: The file to create; missing folders are created.
        metadata: The ``parameters`` text to embed, if any.
        format: "png" or "jpg"; by default the path's extension.
        synthetic: As for ``encode_picture``.

    Returns:
        The path as a ``Path``.

    Raises:
        UserError: The file exists, the format is unknown, or the file cannot be written.
    """
    path = Path(path)
    file_format = format or path.suffix.lstrip(".").lower()
    data = encode_picture(picture, file_format, metadata, synthetic=synthetic)
    try:
        _write_new(data, path)
    except FileExistsError as error:
        raise UserError(
            f"{path} already exists; saved pictures are never replaced; "
            "choose another name or move the file away"
        ) from error
    return path


def save_numbered(
    picture: np.ndarray,
    folder: str | Path,
    pattern: str,
    *,
    number: int | None = None,
    metadata: str | None = None,
    format: str = "png",
    synthetic: bool = True,
    said: Mapping[str, Any] | None = None,
) -> tuple[Path, int]:
    """Save a picture under the next free number, even if several processes share the folder.

    Args:
        picture: uint8 (H, W, 3), RGB.
        folder: Where to save; made if missing.
        pattern: As for ``next_index``; the extension follows from ``format``.
        number: The number to try first; by default ``next_index(folder, pattern)``.
        metadata: The ``parameters`` text to embed, if any.
        format: "png" or "jpg".
        synthetic, said: As for ``encode_picture``.

    Returns:
        The path, and the number that was free.

    Raises:
        UserError: The format is unknown, or the file cannot be written.
    """
    data = encode_picture(picture, format, metadata, synthetic=synthetic, said=said)
    return _write_numbered(data, folder, pattern, format, number)


def copy_numbered(source: str | Path, folder: str | Path, pattern: str) -> Path:
    """Copy a picture's file, byte for byte, under the next free number; return its path.

    Args:
        source: The file.
        folder: Where to save; made if missing.
        pattern: As for ``next_index``; the extension is the file's own.

    Raises:
        UserError: The file cannot be read, or the copy cannot be written.
    """
    source = Path(source)
    try:
        data = source.read_bytes()
    except ERRORS as error:
        raise UserError(
            f"image {source} cannot be read ({reason(error)}); expected a picture file; check it"
        ) from error
    return _write_numbered(data, folder, pattern, source.suffix.lstrip("."))[0]


def _write_numbered(
    data: bytes, folder: str | Path, pattern: str, format: str, number: int | None = None
) -> tuple[Path, int]:
    """Write a file under the next free number, ``number`` or a later one; return both."""
    number = next_index(folder, pattern) if number is None else number
    while True:
        path = Path(folder) / f"{_stem(pattern).format(number)}.{format}"
        try:
            _write_new(data, path)
            return path, number
        except FileExistsError:  # another process took this number in the meantime
            number += 1


def _write_new(data: bytes, path: Path) -> None:
    """Write a file that appears under its name only when complete.

    Raises:
        FileExistsError: The name is taken.
        UserError: The folder cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = part_beside(path)
        try:
            part.write_bytes(data)
            _give_name(part, path)
        finally:
            remove(part)
    except ERRORS as error:
        if isinstance(error, FileExistsError) and exists(path):
            raise
        raise UserError(
            f"{path} cannot be written ({reason(error)}); "
            "give an output folder that can be written to and has space"
        ) from error


def _give_name(part: Path, path: Path) -> None:
    """Rename a finished file, but never over an existing one, as ``os.replace`` would."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: reserve the name, then replace it
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(part, path)

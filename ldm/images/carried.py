"""Carry over what a picture's file says besides its pixels to a picture that was made from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from ldm.images.embed import (
    DIGITAL_SOURCE_TYPE,
    TEXT_KEYWORD,
    XMP_KEYWORD,
    encodable,
    is_readable,
    parameters_in,
    save_options,
)
from ldm.images.metadata import FEWEST_SETTINGS, format_parameters, parse_parameters

logger = logging.getLogger(__name__)

# Of PNG files; "parameters" and XMP have places of their own.
_NO_TEXTS = frozenset((TEXT_KEYWORD, XMP_KEYWORD, "comment", "exif"))


@dataclass(frozen=True)
class Carried:
    """What a picture's file says.

    Attributes:
        parameters: The recipe, if there is one.
        texts: Other texts by their keys, such as ComfyUI's graphs.
        xmp: Its XMP packet, or "".
        rest: Its colour profile, EXIF data without the orientation, and resolution, as Pillow's
            writers take them.
    """

    parameters: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    xmp: str = ""
    rest: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, image: Image.Image, name: str = "the picture") -> Carried:
        """Return what a picture's file says.

        Args:
            image: The picture as it was opened, and loaded.
            name: What warnings call it.
        """
        xmp = image.info.get(XMP_KEYWORD) or image.info.get("xmp") or ""
        if isinstance(xmp, bytes):
            xmp = xmp.decode("utf-8", "replace")
        texts = {
            key: str(value)
            for key, value in image.info.items()
            if isinstance(key, str)
            and isinstance(value, str)
            and key not in _NO_TEXTS
            and is_readable(value, key, name)
        }
        readable = is_readable(str(xmp), XMP_KEYWORD, name)
        # A profile of other colours than RGB's does not suit what is made of the picture.
        kept = ("icc_profile", "dpi") if image.mode in ("RGB", "RGBA", "P") else ("dpi",)
        rest = {key: image.info[key] for key in kept if image.info.get(key)}
        rest |= _exif(image)
        return cls(parameters_in(image, name), texts, str(xmp) if readable else "", rest)

    @property
    def synthetic(self) -> bool:
        """Whether a model drew the picture."""
        return self.parameters is not None or DIGITAL_SOURCE_TYPE in self.xmp

    def with_entries(self, entries: Mapping[str, object]) -> str | None:
        """Return the recipe with further settings; as it is where it has no line for settings.

        Args:
            entries: Settings by their names.
        """
        if self.parameters is None:
            return None
        prompt, negative, settings = parse_parameters(self.parameters)
        if len(settings) < FEWEST_SETTINGS:
            return self.parameters
        return format_parameters(prompt, negative, {**settings, **entries})

    def png_options(self, parameters: str | None) -> dict[str, Any]:
        """Return keyword arguments of ``PIL.Image.Image.save`` for a PNG that says the same.

        Args:
            parameters: The recipe in place of its own.
        """
        if self.synthetic and DIGITAL_SOURCE_TYPE not in self.xmp:
            options = save_options("PNG", parameters)  # the mark takes the place of other XMP
            chunks = options["pnginfo"]
        else:
            chunks = PngInfo()
            if parameters is not None:
                chunks.add_text(TEXT_KEYWORD, encodable(parameters))
            if self.xmp:
                chunks.add_itxt(XMP_KEYWORD, encodable(self.xmp))
        for key, value in self.texts.items():
            if 0 < len(key) < 80 and key.isprintable() and key.isascii():
                chunks.add_text(key, encodable(value))
        return {"pnginfo": chunks, **self.rest}


def _exif(image: Image.Image) -> dict[str, Any]:
    """Return a picture's EXIF data without its orientation, which has been applied."""
    try:
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())  # a copy: the picture keeps its orientation
        exif.pop(ExifTags.Base.Orientation, None)
        return {"exif": exif.tobytes()} if len(exif) else {}
    except Exception as error:  # broken EXIF makes Pillow raise almost anything
        logger.warning("EXIF data cannot be read (%s) and are left out", error)
        return {}

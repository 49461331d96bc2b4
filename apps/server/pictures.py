"""Pictures that requests bring: bytes of a file, never an address or a path. Imports no torch."""

from __future__ import annotations

import base64
import binascii
import re

from PIL import Image

from ldm.errors import UserError
from ldm.images.io import upright_eight_bit
from ldm.images.pixels import decoded
from ldm.legible import quoted

_DATA = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,15}:|/|\\|\.{1,2}/|~", re.IGNORECASE)
_SHOWN = 40  # characters


def picture_in(text: object, what: str = "image") -> Image.Image:
    """Return the picture that a text holds in base64, with or without ``data:image/png;base64,``.

    Args:
        text: Of a request.
        what: The field, for messages.

    Raises:
        UserError: It is no text, an address or a path, or the picture cannot be read.
    """
    if not isinstance(text, str):
        raise UserError(f"{what} is no text; expected a picture file's bytes in base64; change it")
    start = _DATA.match(text)
    if start is None and _ADDRESS.match(text) and len(text) < 4096 and not _is_base64(text):
        raise UserError(
            f"{what} {quoted(text, _SHOWN)} was given; expected a picture file's bytes in base64: "
            "addresses and paths are not followed; send the file itself"
        )
    try:
        data = base64.b64decode(text[start.end() if start else 0 :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(
            f"{what} is not base64; expected a picture file's bytes in it; encode the file anew"
        ) from error
    return picture_of(data, what)


def picture_of(data: bytes, what: str = "image") -> Image.Image:
    """Return the picture that a file's bytes hold, upright; its transparency is kept.

    Raises:
        UserError: It cannot be read, or is too large.
    """
    if not data:
        raise UserError(f"{what} is empty; expected a picture file; send one")
    return upright_eight_bit(decoded(data, what))


def _is_base64(text: str) -> bool:
    """Whether a text is that, though it begins with a slash, as JPEG files do."""
    try:
        return len(base64.b64decode(text, validate=True)) > 0
    except (binascii.Error, ValueError):
        return False

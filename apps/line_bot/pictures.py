"""Where pictures get their addresses: three methods, and the bot's own serving of files.

LINE fetches pictures from https addresses: a JPEG of at most 10 MB, and a preview of at most 1 MB.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Protocol

from PIL import Image

from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.images.embed import save_options

LARGEST = 10 * 10**6  # bytes of a picture
LARGEST_PREVIEW = 10**6
PREVIEW_SIDE = 512  # pixels; LINE shows previews small
LONGEST_URL = 2000  # letters
NAME = re.compile(r"[0-9a-f]{32}")
"""A picture's name: 128 bits that nobody guesses."""
_QUALITIES = (95, 90, 80, 65, 45)


class PictureStore(Protocol):
    """Gives pictures addresses."""

    def put(self, name: str, data: bytes) -> str:
        """Store a JPEG under a name; return the handle that ``url`` and ``remove`` take.

        The same name twice is the same picture.

        Raises:
            OSError: It cannot be stored now.
        """

    def url(self, handle: str) -> str:
        """Return the https address of a stored picture."""

    def remove(self, handle: str) -> None:
        """Remove a picture, which need not be there any more.

        Raises:
            OSError: It cannot be removed now.
        """


class OwnPictures:
    """Pictures in a folder that the bot itself serves under /pictures.

    Args:
        folder: Where they lie.
        base_url: The bot's public https address.
    """

    def __init__(self, folder: Path, base_url: str) -> None:
        self.folder, self.base_url = folder, checked_address(base_url)

    def path(self, name: str) -> Path | None:
        """Return the file of a picture; None for what is no picture's name."""
        return self.folder / f"{name}.jpg" if NAME.fullmatch(name) else None

    def put(self, name: str, data: bytes) -> str:
        """Store a JPEG; its file appears whole."""
        if NAME.fullmatch(name) is None:
            raise ValueError("a picture's name has 32 hexadecimal digits")
        with replacing(self.folder / f"{name}.jpg") as part:
            part.write_bytes(data)
        return name

    def url(self, handle: str) -> str:
        """Return where the bot serves a picture."""
        return f"{self.base_url}/pictures/{handle}.jpg"

    def remove(self, handle: str) -> None:
        """Remove a picture's file."""
        if path := self.path(handle):
            path.unlink(missing_ok=True)


def checked_address(url: str) -> str:
    """Return an address without its last slash.

    Raises:
        UserError: It is not https, which LINE demands, or too long.
    """
    if not url.startswith("https://"):
        raise UserError(
            f"pictures' address {url} was given; LINE takes https addresses only; put a proxy with "
            "a certificate before it"
        )
    if len(url) > LONGEST_URL - 100:
        raise UserError(f"an address of {len(url)} letters was given; LINE takes {LONGEST_URL}")
    return url.rstrip("/")


def fit_jpeg(image: Image.Image, most: int, parameters: str | None = None) -> bytes:
    """Encode a picture as a JPEG of a limited size, as good as fits.

    Args:
        image: RGB.
        most: Bytes.
        parameters: How it was made, to be stored with it.
    """
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            options = save_options("JPEG", parameters)
            image.save(buffer, format="JPEG", quality=quality, **options)
            if buffer.tell() <= most:
                return buffer.getvalue()
        if parameters is not None:  # a long prompt may be what does not fit
            parameters = None
            continue
        width, height = image.size
        if min(width, height) < 2:
            raise ValueError(f"no JPEG has {most} bytes")
        image = image.resize((max(1, width // 2), max(1, height // 2)), Image.Resampling.LANCZOS)


def preview_of(image: Image.Image) -> Image.Image:
    """Return a picture small enough to be LINE's preview."""
    small = image.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS)
    return small

"""Embed the reference's invisible watermark, and read it back to make sure that it is there.

The ``invisible-watermark`` package (imported only when used: it needs OpenCV) hides one bit in each
8x8 block of the picture's chroma. The reference uses its method ``dwtDct``, and so does every
picture on which it can be read back. Colourful pictures often fail; they get ``dwtDctSvd``.
Neither method can raise a value that is already at its limit, so as a last resort the extremes of
a picture, such as large pure white or pure blue areas, are brought in by a few levels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from ldm.errors import UserError

logger = logging.getLogger(__name__)

Method = Literal["dwtDct", "dwtDctSvd"]

TEXT = "StableDiffusionV1"
SMALLEST_AREA = 256 * 256  # pixels; the package refuses less
# Each attempt: a method, and by how many levels the picture's extremes are first brought in.
_ATTEMPTS: tuple[tuple[Method, int], ...] = (
    ("dwtDct", 0),
    ("dwtDctSvd", 0),
    ("dwtDctSvd", 4),
    ("dwtDctSvd", 8),
    ("dwtDctSvd", 16),
)


class Watermarker:
    """Embeds a text, and checks that it can be read back.

    Args:
        text: What to embed; UTF-8.
    """

    def __init__(self, text: str = TEXT):
        self.text = text
        self._payload = text.encode("utf-8")

    def fits(self, height: int, width: int) -> bool:
        """Check whether a picture of this size in pixels can hold the text."""
        blocks = (height // 8) * (width // 8)
        return height * width >= SMALLEST_AREA and blocks >= 8 * len(self._payload)

    def apply(
        self,
        picture: np.ndarray,
        *,
        after_saving: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> tuple[np.ndarray, Method | None]:
        """Embed the text in a picture.

        Args:
            picture: uint8 (H, W, 3), RGB; not modified.
            after_saving: What a lossy file format does to a picture; the watermark must then be
                readable afterwards. By default the saved pixels are the embedded ones.

        Returns:
            The marked picture and the method that was used, or an unchanged copy and None if the
            picture is too small or no method can be read back.

        Raises:
            UserError: The package is missing or broken.
        """
        if not self.fits(*picture.shape[:2]):
            return picture.copy(), None
        for method, margin in _ATTEMPTS:
            marked = self._embed(np.clip(picture, margin, 255 - margin), method)
            seen = marked if after_saving is None else after_saving(marked)
            if _decode(seen, method, len(self._payload)) == self._payload:
                return marked, method
        logger.warning("no watermark could be read back from this picture: it is saved without")
        return picture.copy(), None

    def _embed(self, picture: np.ndarray, method: Method) -> np.ndarray:
        encoder = _package().WatermarkEncoder()
        encoder.set_watermark("bytes", self._payload)
        return _reverse_channels(encoder.encode(_reverse_channels(picture), method))


def read_watermark(picture: np.ndarray, text: str = TEXT) -> str | None:
    """Read the watermark of a picture, whichever method wrote it.

    Args:
        picture: uint8 (H, W, 3), RGB; not modified.
        text: The expected text; another text with the same number of bytes is found too.

    Returns:
        The text, or None if there is none: any picture decodes to some bytes, and only printable
        text counts.

    Raises:
        UserError: The package is missing or broken.
    """
    if not Watermarker(text).fits(*picture.shape[:2]):
        return None
    length = len(text.encode("utf-8"))
    found = [_printable(_decode(picture, method, length)) for method in ("dwtDct", "dwtDctSvd")]
    return text if text in found else next(filter(None, found), None)


def why_unavailable() -> str | None:
    """Return one line on why pictures cannot be watermarked here; None if they can."""
    try:
        _package()
    except UserError as error:
        return str(error)
    return None


def _package() -> Any:
    try:
        import imwatermark
    except ImportError as error:  # also OpenCV on a machine without the libraries it links to
        raise UserError(
            f"the package invisible-watermark cannot be imported ({error}); it marks every saved "
            "picture; run: pip install invisible-watermark"
        ) from error
    return imwatermark


def _decode(picture: np.ndarray, method: Method, length: int) -> bytes:
    decoder = _package().WatermarkDecoder("bytes", 8 * length)
    return decoder.decode(_reverse_channels(picture), method)


def _printable(payload: bytes) -> str | None:
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def _reverse_channels(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[..., ::-1])  # RGB <-> BGR, OpenCV's order

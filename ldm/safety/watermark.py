"""Embed the reference's invisible watermark, and read it back to make sure that it is there.

``gentle_watermark`` embeds the same text so that it cannot be seen.
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
from ldm.safety.dwt_dct import fits, read_payload

logger = logging.getLogger(__name__)

Method = Literal["dwtDct", "dwtDctSvd"]
Copy = Callable[[np.ndarray], np.ndarray]
"""What becomes of a picture, uint8 (H, W, 3), in a file."""

TEXT = "StableDiffusionV1"
# Each attempt: a method, and by how many levels the picture's extremes are first brought in.
_ATTEMPTS: tuple[tuple[Method, int], ...] = (
    ("dwtDct", 0),
    ("dwtDctSvd", 0),
    ("dwtDctSvd", 4),
    ("dwtDctSvd", 8),
    ("dwtDctSvd", 16),
)


class Watermarker:
    """Embeds a text as the reference does, and checks that it can be read back.

    Args:
        text: What to embed; UTF-8.
    """

    def __init__(self, text: str = TEXT):
        self.text = text
        self.payload = text.encode("utf-8")

    def fits(self, height: int, width: int) -> bool:
        """Check whether a picture of this size in pixels can hold the text."""
        return fits(height, width, len(self.payload))

    def unavailable(self) -> str | None:
        """Return one line on why pictures cannot be marked here; None if they can."""
        return why_unavailable()

    def apply(
        self,
        picture: np.ndarray,
        *,
        after_saving: Copy | None = None,
        part: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Method | None]:
        """Embed the text in a picture.

        Args:
            picture: uint8 (H, W, 3), RGB; not modified.
            after_saving: What a lossy file format does to a picture; the watermark must then be
                readable afterwards. By default the saved pixels are the embedded ones.
            part: Where the picture may be changed, bool (H, W); None is everywhere.

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
            if part is not None:
                marked = np.where(part[..., None], marked, picture)
            seen = marked if after_saving is None else after_saving(marked)
            if _decode(seen, method, len(self.payload)) == self.payload:
                return marked, method
        return self.or_unmarked(None, picture), None

    def or_unmarked(self, marked: np.ndarray | None, picture: np.ndarray) -> np.ndarray:
        """Return the marked picture, or with a warning a copy of the picture if there is none."""
        if marked is not None:
            return marked
        logger.warning("no watermark could be read back from this picture: it is saved without")
        return picture.copy()

    def _embed(self, picture: np.ndarray, method: Method) -> np.ndarray:
        encoder = _package().WatermarkEncoder()
        encoder.set_watermark("bytes", self.payload)
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
        UserError: ``dwtDct`` did not write the text, and the package, which knows the other
            method, is missing or broken.
    """
    if not Watermarker(text).fits(*picture.shape[:2]):
        return None
    length = len(text.encode("utf-8"))
    plain = _printable(read_payload(picture, length))
    if plain == text:
        return text
    other = _printable(_decode(picture, "dwtDctSvd", length))
    return text if other == text else plain or other


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

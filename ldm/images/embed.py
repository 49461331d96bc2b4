"""Embed text in a picture's file: generation parameters and the mark of a synthetic picture.

PNG keeps the parameters in a text chunk named ``parameters``, JPEG in the EXIF tag UserComment:
the places where AUTOMATIC1111's web UI and compatible tools look. Every file also carries
IPTC's ``DigitalSourceType = trainedAlgorithmicMedia`` as XMP, the standard machine-readable
statement that a picture comes from a generative model.
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ldm.budgets import RECIPE_LENGTH
from ldm.legible import quoted

logger = logging.getLogger(__name__)

TEXT_KEYWORD = "parameters"
XMP_KEYWORD = "XML:com.adobe.xmp"
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    f"<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="w"?>'
)

_EXIF_IFD = 0x8769
_USER_COMMENT = 0x9286
_LONG, _UNDEFINED_TYPE = 4, 7
_TIFF_HEADER = 8  # bytes
_ONE_ENTRY = 18  # bytes of a directory with one entry
_UNICODE = b"UNICODE\0"
_ASCII = b"ASCII\0\0\0"
_UNDEFINED = b"\0" * 8
_LARGEST_SEGMENT = 65533  # bytes that one JPEG marker segment can hold besides its length


def encodable(text: str) -> str:
    """Replace lone surrogates, which no Unicode encoding can write, by U+FFFD.

    A command line with invalid bytes gives such strings; they must not cost the user a picture.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def save_options(file_format: str, parameters: str | None) -> dict[str, Any]:
    """Return the keyword arguments of ``PIL.Image.Image.save`` that put the texts into the file.

    Args:
        file_format: Pillow's name, "PNG" or "JPEG".
        parameters: The text to embed; None embeds only the mark of a synthetic picture.
    """
    if file_format == "PNG":
        return {"pnginfo": _png_chunks(parameters)}
    options: dict[str, Any] = {"xmp": XMP_PACKET.encode("utf-8")}
    if parameters is not None:
        exif = _exif(parameters)
        if len(exif) <= _LARGEST_SEGMENT:
            options["exif"] = exif
        else:
            logger.warning(
                "the generation parameters (%d bytes) do not fit into a JPEG (%d at most) and are "
                "left out; --format png keeps them",
                len(exif),
                _LARGEST_SEGMENT,
            )
    return options


def parameters_in(image: Image.Image, name: str | Path = "the picture") -> str | None:
    """Read the parameters text of an opened and loaded picture; None if it has none to read.

    Args:
        image: The picture.
        name: What a warning calls it: of EXIF data that are broken, of a text that is no recipe as
            it has more than ``RECIPE_LENGTH`` characters.
    """
    text = image.info.get(TEXT_KEYWORD)
    if not isinstance(text, str):
        text = _in_exif(image, name)
    # Pillow's iTXt is a subclass of str that also carries its language.
    return None if text is None or not is_readable(text, TEXT_KEYWORD, name) else str(text)


def is_readable(text: str, key: str, name: str | Path) -> bool:
    """Check whether a picture's text is short enough for a recipe; warn if it is not."""
    if len(text) <= RECIPE_LENGTH:
        return True
    logger.warning(
        "%s: its text %s has %d characters, more than a recipe has (%d): it is not read",
        *(name, quoted(key), len(text), RECIPE_LENGTH),
    )
    return False


def _in_exif(image: Image.Image, name: str | Path) -> str | None:
    try:
        comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    except Exception as error:  # broken EXIF makes Pillow raise almost anything
        logger.warning("%s: EXIF data cannot be read (%s) and are left out", name, error)
        return None
    if isinstance(comment, str):
        return comment or None
    return _user_comment(comment) if isinstance(comment, bytes) else None


def texts_in_exif(image: Image.Image, name: str | Path = "the picture") -> dict[str, str]:
    """Read the texts that ComfyUI puts into a WebP's EXIF data: ``prompt:{...}``, by their keys.

    Args:
        image: The picture, opened and loaded.
        name: What a warning calls it.
    """
    try:
        found = [value for value in dict(image.getexif()).values() if isinstance(value, str)]
    except Exception as error:  # broken EXIF makes Pillow raise almost anything
        logger.debug("%s: EXIF data cannot be read: %s", name, error)
        return {}
    parts = [text.partition(":") for text in found]
    return {
        key: text.rstrip("\0")
        for key, colon, text in parts
        if colon and key in ("prompt", "workflow") and is_readable(text, key, name)
    }


def _png_chunks(parameters: str | None) -> PngInfo:
    chunks = PngInfo()
    if parameters is not None:
        # Pillow writes Latin-1 text as tEXt, everything else as iTXt.
        chunks.add_text(TEXT_KEYWORD, encodable(parameters))
    chunks.add_itxt(XMP_KEYWORD, XMP_PACKET)
    return chunks


def _exif(parameters: str) -> bytes:
    """Build an EXIF block whose UserComment holds the text as big-endian UTF-16.

    EXIF leaves the text's byte order open; the web UI writes and reads big-endian. The block is
    built by hand because Pillow would give the tag the type BYTE, and readers that insist on the
    standard's UNDEFINED would then find no comment.
    """
    comment = _UNICODE + encodable(parameters).encode("utf-16-be")
    header = b"Exif\0\0" + struct.pack(">2sHI", b"MM", 42, _TIFF_HEADER)
    exif_offset = _TIFF_HEADER + _ONE_ENTRY
    first = struct.pack(">HHHIII", 1, _EXIF_IFD, _LONG, 1, exif_offset, 0)
    second = struct.pack(
        ">HHHIII", 1, _USER_COMMENT, _UNDEFINED_TYPE, len(comment), exif_offset + _ONE_ENTRY, 0
    )
    return header + first + second + comment


def _user_comment(comment: bytes) -> str | None:
    code, body = comment[:8], comment[8:]
    if code == _UNICODE:
        text = _utf16(body)
    elif code in (_ASCII, _UNDEFINED):
        text = body.decode("utf-8", "replace")
    else:
        text = comment.decode("utf-8", "replace")
    return text.rstrip("\0") or None


def _utf16(body: bytes) -> str:
    """Decode UTF-16 of unknown byte order: big-endian unless only little-endian makes sense."""
    big, little = (body.decode(code, "replace") for code in ("utf-16-be", "utf-16-le"))
    if "Steps: " not in big and "Steps: " in little:
        return little.removeprefix("\ufeff")
    return big

"""Read caption files, and keep several captions of one picture as one string."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import numpy as np

from ldm.data.skipping import BadItem
from ldm.errors import UserError

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ENCODING_ERRORS = ("strict", "replace", "ignore")
_BETWEEN = "\x1f"  # ASCII's own "unit separator"


def check_encoding(name: str) -> str:
    """Return the name of an encoding that Python knows.

    Raises:
        UserError: Python knows no encoding of that name.
    """
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise UserError(
            f"encoding {name!r} is not known; expected one such as utf-8 or shift_jis; correct it"
        ) from error
    return name


def check_errors(name: str) -> str:
    """Return the error handler for bytes that are not in the encoding.

    Raises:
        UserError: It is not one of ``ENCODING_ERRORS``.
    """
    if name not in ENCODING_ERRORS:
        raise UserError(
            f"encoding_errors is {name!r}; expected one of {', '.join(ENCODING_ERRORS)}"
        )
    return name


def read_caption(path: Path, encoding: str, errors: str) -> str:
    """Read a caption file as one line.

    Raises:
        BadItem: It cannot be read, or its bytes are not in the encoding.
    """
    try:
        return decode_caption(path.read_bytes(), encoding, errors)
    except OSError as error:
        raise BadItem(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeError as error:
        raise BadItem(f"{path} is not {encoding} text ({error})") from error


def decode_caption(data: bytes, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Decode a caption as one line; a byte order mark overrides ``encoding``.

    Raises:
        UnicodeError: It is not in the encoding.
    """
    marked = [name for mark, name in _MARKS.items() if data.startswith(mark)]
    return one_line(data.decode(marked[0] if marked else encoding, errors))


def one_line(text: str) -> str:
    """Return a text without line breaks and repeated spaces."""
    return " ".join(text.split())


def joined(value: Any) -> str | None:
    """Join a caption, or a list of them, into one text for ``choose``; None if all are empty."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return None
    texts = [line for text in texts if (line := one_line(text.replace(_BETWEEN, " ")))]
    return _BETWEEN.join(texts) or None


def choose(texts: str, rng: np.random.Generator) -> str:
    """Return one of the captions that ``joined`` put together."""
    options = texts.split(_BETWEEN)
    return options[0] if len(options) == 1 else options[int(rng.integers(len(options)))]

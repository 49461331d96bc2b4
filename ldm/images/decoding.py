"""Decode pictures fully, whatever they come as; say which one cannot be read, and why."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from ldm.errors import UserError
from ldm.images.opening import KINDS
from ldm.images.pixels import open_pixels
from ldm.paths import reason

logger = logging.getLogger(__name__)


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

"""Make a hint of a picture, of any kind in ``HINTS``.

Each is a function of its own from an RGB picture to an RGB picture of the same size; this one
checks the options, brings the picture into that form and imports only what the kind needs.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from ldm.errors import UserError
from ldm.images.io import upright_rgb
from ldm.settings.hints import HINTS, complete_options
from ldm.util import get_obj_from_str

__all__ = ["HINTS", "make_hint"]


def make_hint(kind: str, picture: Image.Image, **options: Any) -> Image.Image:
    """Return what a ControlNet of a kind is to be shown of a picture.

    Args:
        kind: A key of ``HINTS``.
        picture: Of any mode; transparency is dropped, as everywhere.
        **options: Those that ``HINTS[kind].defaults`` names.

    Returns:
        An RGB picture of the same size. Lines are white on black.

    Raises:
        UserError: There is no such kind or option, a value is out of range, or a package or
            folder that the kind needs is not there.
    """
    complete = complete_options(kind, options)
    if 0 in picture.size:
        raise UserError(f"a picture of {picture.width}x{picture.height} was given; expected pixels")
    rgb = upright_rgb(picture, "for a hint")
    return get_obj_from_str(HINTS[kind].address)(rgb, **complete)

"""Pictures and masks from the value of the editor: ``{"background", "layers", "composite"}``.

    what the page sends: uploaded files  ->  ``opened``: pictures  ->  init image and mask

``background`` is the uploaded picture at its own size. Each layer holds what was painted on it and
is transparent elsewhere. ``composite`` is all of them together. All are RGBA, or None if empty.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from ldm.errors import UserError
from ldm.images.io import lost_as_rgb, open_image, upright_eight_bit
from ldm.images.opening import unused_of
from ldm.images.pixels import over
from ldm.pipelines.masks import HALF_GREY, Mask

OPAQUE = 255

logger = logging.getLogger(__name__)


def opened(value: Mapping[str, Any] | None) -> Any:
    """Open the files that the editor, or an upload, holds; log what of one is not used.

    Args:
        value: A file, ``{"path": ...}``; what the editor holds of files, or parts of it; or None.

    Returns:
        The same of pictures; a file's is upright.

    Raises:
        UserError: a file is gone, is no picture that can be read, or is too large.
    """
    if value is None:
        return None
    if "path" in value:
        return _read(value["path"])
    return {
        part: [opened(layer) for layer in held if layer] if part == "layers" else opened(held)
        for part, held in value.items()
    }


def _read(path: str) -> Image.Image:
    stored = open_image(path)
    # Transparency is kept, or has white put behind it.
    lost = None if stored.has_transparency_data else lost_as_rgb(stored)
    for text in unused_of(path, lost, "this page works in", f"the picture {path}"):
        logger.warning("%s", text)
    return upright_eight_bit(stored)


def painted_picture(value: Mapping[str, Any] | None) -> Image.Image:
    """Return the picture with what was painted on it, RGB.

    Raises:
        UserError: there is no picture.
    """
    return _on_white((value or {}).get("composite"))


def plain_picture(value: Mapping[str, Any] | None) -> Image.Image:
    """Return the picture without what was painted on it, RGB.

    Raises:
        UserError: there is no picture.
    """
    return _on_white((value or {}).get("background"))


def own_picture(value: Mapping[str, Any] | None) -> Image.Image:
    """Return the picture without what was painted on it, RGBA if it is not opaque, else RGB.

    Raises:
        UserError: there is no picture.
    """
    plain = plain_picture(value)
    image = value["background"].convert("RGBA")
    return plain if image.getchannel("A").getextrema()[0] == OPAQUE else image


def is_marked(value: Mapping[str, Any], uploaded: Image.Image | None) -> bool:
    """Return whether anything is painted over, or a mask was uploaded."""
    return uploaded is not None or bool(_painted(value).any())


def mask_of(value: Mapping[str, Any], uploaded: Image.Image | None) -> Mask:
    """Return the painted pixels, joined with those of an uploaded mask.

    Args:
        value: The editor's; it has a picture.
        uploaded: A mask in the picture's proportions, white where to redraw; None if none was
            uploaded.

    Raises:
        UserError: nothing is marked, or the uploaded mask has other proportions.
    """
    size, painted = value["background"].size, _painted(value)
    if uploaded is None:
        if not painted.any():
            raise UserError("nothing is painted over; expected the part to redraw; paint over it")
        return Mask(painted)
    mask = Mask.of(uploaded).fit(size, size)
    return replace(mask, marked=mask.marked | painted)


def _painted(value: Mapping[str, Any]) -> np.ndarray:
    """Return where something is painted, bool (H, W)."""
    painted = np.zeros(value["background"].size[::-1], bool)
    for layer in value.get("layers") or ():
        painted |= np.asarray(layer.convert("RGBA"))[..., 3] >= HALF_GREY
    return painted


def _on_white(image: Image.Image | None) -> Image.Image:
    if image is None or not np.asarray(image.convert("RGBA"))[..., 3].any():
        raise UserError("there is no picture; expected one to start from; upload or paste one")
    return over(image, "white")

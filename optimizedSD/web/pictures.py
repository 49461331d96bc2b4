"""Pictures and masks out of the editor's value: ``{"background", "layers", "composite"}``.

``background`` is what was uploaded, at its own size; each layer is what was painted on it,
transparent elsewhere; ``composite`` is all together. All are RGBA, or None while there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from ldm.errors import UserError
from ldm.pipelines.masks import HALF_GREY, Mask


def painted_picture(value: Mapping[str, Any] | None) -> Image.Image:
    """Return the picture with what was painted on it, RGB.

    Raises:
        UserError: there is none.
    """
    return _on_white((value or {}).get("composite"))


def plain_picture(value: Mapping[str, Any] | None) -> Image.Image:
    """Return the picture without what was painted on it, RGB.

    Raises:
        UserError: there is none.
    """
    return _on_white((value or {}).get("background"))


def mask_of(value: Mapping[str, Any], uploaded: Image.Image | None) -> Mask:
    """Return what was painted over, together with what an uploaded mask marks.

    Raises:
        UserError: neither marks anything, or the uploaded one was made for another picture.
    """
    size = value["background"].size
    painted = np.zeros(size[::-1], bool)
    for layer in value.get("layers") or ():
        painted |= np.asarray(layer.convert("RGBA"))[..., 3] >= HALF_GREY
    if uploaded is None:
        if not painted.any():
            raise UserError("nothing is painted over; expected what to draw anew; paint over it")
        return Mask(painted)
    mask = Mask.of(uploaded).fit(size, size)
    return replace(mask, marked=mask.marked | painted)


def _on_white(image: Image.Image | None) -> Image.Image:
    if image is None or not np.asarray(image.convert("RGBA"))[..., 3].any():
        raise UserError("there is no picture; expected one to start from; upload or paste one")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")

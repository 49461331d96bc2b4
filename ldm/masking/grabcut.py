"""Mark the thing in a box without any network: GrabCut, by the colours inside and outside."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ldm.errors import UserError

LOOKED_AT = 640
"""The longer side of the picture as GrabCut sees it, in pixels; its time grows with the area."""
MARGIN = 0.04
"""Of each side: what is taken for background where no box is given."""
_ROUNDS = 6
_SEED = 0  # the mixtures of colours begin with random ones


def by_grabcut(picture: Image.Image, box: tuple[float, float, float, float] | None) -> np.ndarray:
    """Return the mask of the thing in a box, uint8 (H, W), soft by the width of a pixel.

    Args:
        picture: RGB.
        box: Left, top, right and bottom, in fractions of the sides; None is all but a margin.

    Raises:
        UserError: The box is no box, or there is nothing outside or inside of it.
    """
    import cv2

    small = picture.copy()
    small.thumbnail((LOOKED_AT, LOOKED_AT), Image.Resampling.BOX)
    rectangle = _in_pixels(box, small.size)
    marks = np.zeros(small.size[::-1], np.uint8)
    models = np.zeros((2, 1, 65), np.float64)
    cv2.setRNGSeed(_SEED)
    pixels = np.ascontiguousarray(np.asarray(small)[..., ::-1])
    try:
        marks, *_ = cv2.grabCut(
            pixels, marks, rectangle, models[0], models[1], _ROUNDS, cv2.GC_INIT_WITH_RECT
        )
    except cv2.error as error:
        raise UserError(
            "GrabCut cannot tell what is in the box: it needs some colours inside and outside; "
            "give another --box"
        ) from error
    marked = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD))
    found = Image.fromarray(marked.astype(np.uint8) * 255)
    return np.asarray(found.resize(picture.size, Image.Resampling.BICUBIC))


def _in_pixels(
    box: tuple[float, float, float, float] | None, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return a box as left, top, width and height in pixels."""
    left, top, right, bottom = box or (MARGIN, MARGIN, 1 - MARGIN, 1 - MARGIN)
    width, height = size
    first = round(left * width), round(top * height)
    last = round(right * width), round(bottom * height)
    sides = last[0] - first[0], last[1] - first[1]
    if box is None and min(sides) < 2:
        raise UserError(
            f"the picture is {width}x{height} as GrabCut looks at it, which is too little to tell "
            "a thing from what is around it; expected more pixels; mark it by its colour"
        )
    inside = 0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0
    if not inside or min(sides) < 2 or sides == size:
        shown = ",".join(f"{side:g}" for side in (left, top, right, bottom))
        raise UserError(
            f"--box {shown} was given; expected LEFT,TOP,RIGHT,BOTTOM in fractions from 0 to 1, "
            "with something inside and something outside; change it"
        )
    return (*first, *sides)

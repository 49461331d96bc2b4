"""Cut a face out of a picture, upright and of the size that networks expect, and put it back.

picture (H, W, 3) --placement--> aligned (512, 512, 3) ... redrawn --its inverse--> picture
                                                         weighed by a mask, soft at its edge
"""

from __future__ import annotations

import numpy as np

from ldm.faces.placing import SIDE, scale_of

OUTSIDE = (135, 133, 132)
"""RGB of what lies beyond the picture's edge, as in the data that the networks have seen."""
EDGE = 0.1
"""Of the aligned picture's side: the width of the border in which old and new are mixed."""


def cut_out(pixels: np.ndarray, placement: np.ndarray) -> np.ndarray:
    """Return a face, aligned: uint8 (512, 512, 3).

    Args:
        pixels: The picture, uint8 (H, W, 3), RGB.
        placement: (2, 3), from the picture to the aligned one.
    """
    import cv2

    scale = scale_of(placement)
    if scale < 1.0:  # or pixels between those that are looked at would be left out
        pixels = cv2.GaussianBlur(pixels, (0, 0), sigmaX=0.5 * np.sqrt(scale**-2 - 1))
    return cv2.warpAffine(
        pixels,
        placement,
        (SIDE, SIDE),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=OUTSIDE,
    )


def put_back(pixels: np.ndarray, face: np.ndarray, placement: np.ndarray) -> np.ndarray:
    """Return the picture with an aligned face in its place; what the mask leaves is unchanged.

    Args:
        pixels: The picture, uint8 (H, W, 3); not modified.
        face: uint8 (512, 512, 3).
        placement: (2, 3), from the picture to the aligned one.
    """
    import cv2

    left, top, right, bottom = _bounds(placement, pixels.shape)
    if left >= right or top >= bottom:
        return pixels
    # Only where the face lands is computed: pictures can be a hundred times as large.
    inverse = cv2.invertAffineTransform(placement)
    inverse[:, 2] -= (left, top)
    size = (right - left, bottom - top)
    scale = scale_of(placement)
    if scale > 1.0:
        face = cv2.GaussianBlur(face, (0, 0), sigmaX=0.5 * np.sqrt(scale**2 - 1))
    landed = cv2.warpAffine(face, inverse, size, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.warpAffine(soft_square(), inverse, size)[..., None]
    old = pixels[top:bottom, left:right]
    mixed = np.rint(old + weight * (landed.astype(np.float32) - old)).astype(np.uint8)
    result = pixels.copy()
    result[top:bottom, left:right] = mixed
    return result


def soft_square() -> np.ndarray:
    """Return how much of the redrawn face is taken: float32 (512, 512), 0 at the edge, 1 inside."""
    at = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    rise = np.clip(np.minimum(at, 1 - at) / EDGE, 0.0, 1.0)
    ramp = rise * rise * (3 - 2 * rise)  # no crease where it begins and ends
    return ramp[:, None] * ramp


def _bounds(placement: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the part of a picture that the aligned one covers: left, top, right, bottom."""
    import cv2

    corners = np.array([[0, 0, 1], [SIDE, 0, 1], [0, SIDE, 1], [SIDE, SIDE, 1]], np.float64)
    places = corners @ cv2.invertAffineTransform(placement).T
    low, high = np.floor(places.min(0)).astype(int), np.ceil(places.max(0)).astype(int) + 1
    height, width = shape[:2]
    return (
        int(max(low[0], 0)),
        int(max(low[1], 0)),
        int(min(high[0], width)),
        int(min(high[1], height)),
    )

"""Make a mask larger, softer, the other way round, or one piece.

Masks are uint8 (H, W): 255 is marked, 0 is not; half grey and brighter counts as marked.
"""

from __future__ import annotations

import numpy as np

HALF = 128


def refine(
    mask: np.ndarray,
    *,
    largest: bool = False,
    invert: bool = False,
    grow: int = 0,
    feather: float = 0.0,
) -> np.ndarray:
    """Return a mask after what is asked for, in the order of the arguments.

    Args:
        mask: Not modified.
        largest: Keep the largest part that hangs together, and nothing else.
        invert: Mark what is not marked.
        grow: By how many pixels the marked parts become wider on every side; below 0, narrower.
        feather: Width of the soft edge, as the blur's standard deviation in pixels.
    """
    import cv2

    if largest:
        mask = largest_part(mask)
    if invert:
        mask = 255 - mask
    if grow:
        mask = grown(mask, grow)
    if feather > 0:
        mask = cv2.GaussianBlur(mask, (0, 0), sigmaX=feather, borderType=cv2.BORDER_REPLICATE)
    return mask


def largest_part(mask: np.ndarray) -> np.ndarray:
    """Return a mask's largest part; pixels hang together by their sides and corners."""
    import cv2

    marked = (mask >= HALF).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
    if count <= 2:  # what is not marked is the first
        return mask
    best = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return np.where(parts == best, mask, 0).astype(np.uint8)


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Return a mask whose marked parts are wider by a number of pixels; below 0, narrower."""
    import cv2

    side = 2 * abs(pixels) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    # What lies beyond the picture neither eats into a mask nor grows into it.
    act = cv2.dilate if pixels > 0 else cv2.erode
    return act(mask, disc, borderType=cv2.BORDER_REPLICATE)

"""Find the eyes in the box of a face, where a detector tells no more than the box.

An iris is a dark disc: the gradients along its edge point away from one centre. The centre is where
most gradients agree (Timm and Barth, VISAPP 2011, Eq. 2 and 3), weighed by how dark the place is.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

EYE_LINE, EYE_APART = 0.37, 0.39
"""Of an upright box's side: how far below its top the eyes are, and how far from each other."""
_FOUND_IN = 40  # pixels: to this the part around an eye is reduced, as the work grows by its square
_PART = (0.32, 0.22)  # width and height of the part around an eye, in sides of the box
_STEEPEST = 80.0  # per cent of gradients that are too weak to count
_LARGEST_TILT = np.deg2rad(25.0)
_APART = (0.65, 1.4)  # times the usual distance


def eyes_in(grey: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
    """Return both eyes' places (2, 2), left first.

    Where what is found cannot be the eyes of an upright face, such as both being the brow of a
    hat, the places that eyes usually have are returned.

    Args:
        grey: The picture, of mode L.
        box: Left, top, width and height of the face.
    """
    left, top, width, height = box
    middle, line = left + width / 2, top + height * EYE_LINE
    offset = np.array([width * EYE_APART / 2, 0.0])
    usual = np.array([middle, line]) + np.stack([-offset, offset])
    found = np.stack([_eye_near(grey, place, width, height) for place in usual])
    return found if _plausible(found, usual) else usual


def _plausible(found: np.ndarray, usual: np.ndarray) -> bool:
    x, y = found[1] - found[0]
    apart = np.hypot(x, y) / (usual[1, 0] - usual[0, 0])
    return bool(abs(np.arctan2(y, x)) <= _LARGEST_TILT and _APART[0] <= apart <= _APART[1])


def _eye_near(grey: Image.Image, place: np.ndarray, width: float, height: float) -> np.ndarray:
    """Return the centre (2,) of the disc near a place, in the picture's pixels."""
    half = np.maximum(np.array([width * _PART[0], height * _PART[1]]) / 2, 2.0)
    first, last = (np.round(place + side).astype(int) for side in (-half, half))
    sides = last - first
    reduced = np.maximum(np.round(sides * min(1.0, _FOUND_IN / sides[0])), 1).astype(int)
    part = grey.crop((*first.tolist(), *last.tolist()))
    part = part.resize(tuple(reduced.tolist()), Image.Resampling.BILINEAR)
    found = disc_centre(np.asarray(part, np.float64))
    return first + (found + 0.5) * sides / reduced - 0.5  # from pixels' corners, and back


def disc_centre(grey: np.ndarray) -> np.ndarray:
    """Return the centre (2,) of the darkest disc.

    Args:
        grey: (H, W), at most some dozens of pixels a side.
    """
    slope = np.stack(np.gradient(grey)[::-1], axis=-1)  # (H, W, 2), x before y
    steep = np.hypot(slope[..., 0], slope[..., 1])
    rows, columns = np.nonzero((steep >= np.percentile(steep, _STEEPEST)) & (steep > 0))
    if not len(rows):
        return (np.array(grey.shape[::-1]) - 1) / 2
    at = np.stack([columns, rows], axis=-1).astype(np.float64)  # (N, 2)
    outward = slope[rows, columns] / steep[rows, columns, None]  # (N, 2)
    height, width = grey.shape
    centres = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    ways = at - centres.reshape(-1, 1, 2)  # (H W, N, 2)
    ways /= np.maximum(np.hypot(ways[..., 0], ways[..., 1]), 1e-9)[..., None]
    agree = np.maximum((ways * outward).sum(-1), 0.0) ** 2
    dark = (255.0 - grey).reshape(-1)
    best = int((agree.mean(1) * dark).argmax())
    return centres.reshape(-1, 2)[best].astype(np.float64)

"""Place the objects of a demo scene.

Boxes are (left, top, right, bottom) as fractions of the picture's side, tight around the glyph.
Their upper left corners are on a grid of 8: at 64 pixels these are the cells of the UNet's second
level, so a glyph of a given size looks the same there in every position, and a small network has
only one picture of it to learn. Only riders use half lines of the grid; else they would float or
sink.
"""

from __future__ import annotations

import numpy as np

from ldm.data.demo.glyphs import glyph_shape
from ldm.data.demo.scene_vocabulary import NOUNS, SIZES

Box = tuple[float, float, float, float]

_GRID = 8
PAIR_EXTENT = SIZES["small"].extent
# Both objects of a pair are this far from the middle: two extents of 0.47, moved by at most the
# jitter and put on the grid in their own halves, never touch.
_PAIR_OFFSET = 0.25
_PAIR_JITTER = 0.02
# How much of the lower object's height the rider covers: it sits on the back, not on the ears.
_RIDING_OVERLAP = 0.22
_EDGE = 0.01


def _shape(noun: str, extent: float) -> tuple[float, float]:
    """Return height and width of a noun's glyph, or of an emoji, as fractions of the side."""
    height, width = glyph_shape(NOUNS[noun].emoji if noun in NOUNS else noun)
    return height * extent, width * extent


def _box_around(
    x: float,
    y: float,
    noun: str,
    extent: float,
    *,
    rows: int = _GRID,
    ends: tuple[float, float] = (1.0, 1.0),
) -> Box:
    """Make a box on the grid; it ends before the right and the lower edge in ``ends``."""
    height, width = _shape(noun, extent)
    left = _on_grid(x - width / 2, ends[0] - width, _GRID)
    top = _on_grid(y - height / 2, ends[1] - height, rows)
    return left, top, left + width, top + height


def _on_grid(edge: float, last: float, lines: int) -> float:
    """Move an edge to the nearest line of a grid from 0 to ``last``."""
    return min(max(round(edge * lines), 0), int(last * lines)) / lines


def _jitter(rng: np.random.Generator, reach: float) -> float:
    return (2 * float(rng.random()) - 1) * reach


def lone_box(noun: str, size: str, rng: np.random.Generator) -> tuple[Box]:
    """Place one object, a noun or an emoji, near the middle; smaller ones further from it."""
    extent = SIZES[size].extent
    reach = 0.3 * (1 - extent - 2 * _EDGE)
    return (_box_around(0.5 + _jitter(rng, reach), 0.5 + _jitter(rng, reach), noun, extent),)


def off_centre_box(noun: str, size: str, rng: np.random.Generator) -> tuple[Box]:
    """Place one object in a quarter of the picture, as far from the middle as it can."""
    extent = SIZES[size].extent
    right, lower = (float(rng.integers(2)) for _ in range(2))
    x, y = (side + (1 - 2 * side) * (extent / 2 + _jitter(rng, 0.06)) for side in (right, lower))
    return (_box_around(x, y, noun, extent),)


def beside_boxes(left: str, right: str, rng: np.random.Generator) -> tuple[Box, Box]:
    """Place two objects side by side without overlap."""
    return _boxes_apart((left, right), rng, upright=False)


def stacked_boxes(upper: str, lower: str, rng: np.random.Generator) -> tuple[Box, Box]:
    """Place one object above the other without overlap."""
    return _boxes_apart((upper, lower), rng, upright=True)


def _boxes_apart(
    nouns: tuple[str, str], rng: np.random.Generator, *, upright: bool
) -> tuple[Box, Box]:
    """Place two objects in halves of the picture: upper and lower if ``upright``, else beside."""
    along = [0.5 + side * _PAIR_OFFSET + _jitter(rng, _PAIR_JITTER) for side in (-1, 1)]
    across = 0.5 + _jitter(rng, 0.1)
    boxes = []
    for noun, middle, end in zip(nouns, along, (0.5, 1.0), strict=True):
        centre, ends = (middle, across + _jitter(rng, 0.04)), (end, 1.0)
        if upright:
            centre, ends = centre[::-1], ends[::-1]
        boxes.append(_box_around(*centre, noun, PAIR_EXTENT, ends=ends))
    first, second = boxes
    return first, second


def riding_boxes(rider: str, mount: str, rng: np.random.Generator) -> tuple[Box, Box]:
    """Seat the first object on the second, overlapping its upper part a little."""
    rider_height, _ = _shape(rider, PAIR_EXTENT)
    mount_height, _ = _shape(mount, PAIR_EXTENT)
    overlap = _RIDING_OVERLAP * mount_height
    height = rider_height + mount_height - overlap
    top = (1 - height) / 2 + _jitter(rng, min(0.05, (1 - height) / 2 - _EDGE))
    x = 0.5 + _jitter(rng, 0.08)
    lower = _box_around(x, top + height - mount_height / 2, mount, PAIR_EXTENT)
    # Relative to the mount's place on the grid, or the rounding of both would add up.
    rider_y = lower[1] + overlap - rider_height / 2
    return _box_around(x + _jitter(rng, 0.03), rider_y, rider, PAIR_EXTENT, rows=2 * _GRID), lower


LAYOUTS = {"beside": beside_boxes, "stacked": stacked_boxes, "riding": riding_boxes}

"""Draw random holes for inpainting: boxes, and strokes of a broad brush.

Shapes: masks are (H, W) float32, 1 in the hole and 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from ldm.data.framing import choice

MOST_BOXES = 4
MOST_STROKES = 4
MOST_CORNERS = 8
SIDE = (0.1, 0.5)  # of a box, as a fraction of the picture's
WIDTH = (0.05, 0.2)  # of the brush, as a fraction of the shorter side


def box_mask(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one to four boxes, each completely inside the picture."""
    mask = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(1, MOST_BOXES + 1))):
        h, w = (max(1, int(side * rng.uniform(*SIDE))) for side in (height, width))
        top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        mask[top : top + h, left : left + w] = 1.0
    return mask


def stroke_mask(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one to four strokes, polylines with round corners, as if drawn by hand."""
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    side = min(height, width)
    for _ in range(int(rng.integers(1, MOST_STROKES + 1))):
        brush = max(1, int(side * rng.uniform(*WIDTH)))
        _stroke(draw, (width, height), brush, rng)
    return np.asarray(canvas, np.float32)


def _stroke(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], brush: int, rng: np.random.Generator
) -> None:
    place = rng.uniform(0, size)
    angle = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(2, MOST_CORNERS + 1))):
        angle += rng.uniform(-1, 1)  # more than a radian would make a scribble in one place
        length = min(size) * rng.uniform(0.1, 0.4)
        step = length * np.array([np.cos(angle), np.sin(angle)])
        goal = np.clip(place + step, 0, np.array(size) - 1)
        draw.line([*place, *goal], fill=1, width=brush)
        for x, y in (place, goal):
            draw.ellipse([x - brush / 2, y - brush / 2, x + brush / 2, y + brush / 2], fill=1)
        place = goal


MASKS: dict[str, Callable[[int, int, np.random.Generator], np.ndarray]] = {
    "box": box_mask,
    "stroke": stroke_mask,
}


def random_mask(kind: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a mask of a kind: "box", "stroke", or "mixed" for one of the two at random."""
    if kind == "mixed":
        kind = tuple(MASKS)[int(rng.integers(len(MASKS)))]
    return choice(MASKS, kind, "masks")(height, width, rng)


def check_kind(kind: str) -> str:
    """Return the kind if it exists.

    Raises:
        UserError: It does not exist.
    """
    choice({**MASKS, "mixed": None}, kind, "masks")
    return kind

"""What an adapter did to pictures of demo scenes, in figures: nothing here knows of a model.

Boxes are (left, top, right, bottom) as fractions of the side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from benchmarks.edit_measures import iou
from benchmarks.scene_oracle import Sight
from ldm.data.demo.scene_layout import Box
from ldm.data.demo.scene_vocabulary import COLOURS
from ldm.data.demo.styled import OUTLINE


def share(values: Iterable[bool]) -> float:
    """Return which part of the values is true; NaN of none."""
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def can_show_outlines(background: str) -> bool:
    """Tell whether an outline can be seen before a background: not before its own colour."""
    difference = np.subtract(COLOURS[background].rgb, OUTLINE)
    return bool(np.abs(difference).max() > 64)


def ious(sights: Sequence[Sight], boxes: Sequence[Box]) -> list[float]:
    """Return how well the one thing found in each picture fills the box that was wanted."""
    return [iou(sight.found[0].box, box) for sight, box in zip(sights, boxes, strict=True)]


def outlined(sights: Sequence[Sight]) -> list[bool]:
    """Return whether the one thing in each picture has an outline, as an ``OutlineOracle`` saw."""
    return [sight.found[0].outlined for sight in sights]


def nouns(sights: Sequence[Sight]) -> list[str]:
    """Return the one thing that was found in each picture."""
    return [sight.found[0].noun for sight in sights]

"""What an adapter did to pictures of demo scenes, in figures: nothing here knows of a model.

Shapes: B pictures (B, 3, H, W) in [-1, 1]. Boxes are (left, top, right, bottom) as fractions of
the side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.edit_measures import iou
from benchmarks.scene_oracle import Sight
from ldm.data.demo.scene_layout import Box
from ldm.data.demo.scene_vocabulary import COLOURS
from ldm.data.demo.scenes import placed
from ldm.data.demo.styled import OUTLINE, THICKNESS, dilated


def share(values: Iterable[bool]) -> float:
    """Return which part of the values is true; NaN of none."""
    values = list(values)
    return sum(values) / len(values) if values else math.nan


def is_outlined(picture: Tensor, sight: Sight) -> bool:
    """Tell whether the one thing that was found in a picture (3, H, W) has an outline.

    The ring around the glyph, where it was found, is nearer to the outline's colour than to the
    background's.
    """
    finding, side = sight.found[0], picture.shape[-1]
    ring = torch.from_numpy(_ring(finding.noun, finding.box, side))
    mean = ((picture.float() + 1) / 2)[:, ring].mean(dim=1)  # (3,)
    ink, ground = (
        torch.tensor(rgb, dtype=torch.float32) / 255
        for rgb in (OUTLINE, COLOURS[sight.background].rgb)
    )
    return bool((mean - ink).norm() < (mean - ground).norm())


def can_show_outlines(background: str) -> bool:
    """Tell whether an outline can be seen before a background: not before its own colour."""
    difference = np.subtract(COLOURS[background].rgb, OUTLINE)
    return bool(np.abs(difference).max() > 64)


def _ring(noun: str, box: Box, side: int) -> np.ndarray:
    """Return where a glyph's outline stands: bool (side, side)."""
    rows, columns, (_, transparency) = placed(noun, box, side)
    alpha = np.zeros((side, side, 1), dtype=np.float32)
    alpha[rows, columns] = 1 - transparency
    near = dilated(alpha, max(1, round(THICKNESS * side)))[..., 0]
    return (near > 0.9) & (alpha[..., 0] < 0.1)


def ious(sights: Sequence[Sight], boxes: Sequence[Box]) -> list[float]:
    """Return how well the one thing found in each picture fills the box that was wanted."""
    return [iou(sight.found[0].box, box) for sight, box in zip(sights, boxes, strict=True)]


def nouns(sights: Sequence[Sight]) -> list[str]:
    """Return the one thing that was found in each picture."""
    return [sight.found[0].noun for sight in sights]

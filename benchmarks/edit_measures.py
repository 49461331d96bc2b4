"""What an edit of a demo scene did, in figures: nothing here knows of a model.

Shapes: B pictures (B, 3, H, W) in [-1, 1]; h w sides of an attention map. Boxes are (left, top,
right, bottom) as fractions of the side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.scene_oracle import Sight, border_pixels
from ldm.data.demo.glyphs import glyph_shape
from ldm.data.demo.scene_captions import with_article
from ldm.data.demo.scene_layout import Box
from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS, SIZES
from ldm.data.demo.scenes import Scene


@dataclass(frozen=True)
class Swap:
    """An edit to make: a scene of one object, and what is to stand in the object's place.

    Attributes:
        scene: The source.
        noun: Key of ``NOUNS``, another than the scene's.
        caption: The scene's caption with that noun.
    """

    scene: Scene
    noun: str
    caption: str


def choose_swaps(scenes: Sequence[Scene], seed: int) -> list[Swap]:
    """Choose another noun for each scene of one object; a function of the arguments alone."""
    rng = np.random.default_rng(seed)
    swaps = []
    for scene in scenes:
        others = [noun for noun in NOUNS if noun != scene.objects[0]]
        noun = others[int(rng.integers(len(others)))]
        swaps.append(Swap(scene, noun, swapped_caption(scene, noun)))
    return swaps


def swapped_caption(scene: Scene, noun: str) -> str:
    """Return an English scene's caption with another noun and the article that goes with it."""
    size = SIZES[scene.size].english
    before, after = (with_article(f"{size} {name}".strip()) for name in (scene.objects[0], noun))
    return scene.caption.replace(before, after, 1)


def iou(a: Box, b: Box) -> float:
    """Return the intersection of two boxes over their union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (_area(a) + _area(b) - shared)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def concentric_iou(noun: str, other: str) -> float:
    """Return the IoU of two nouns' boxes if both have one size and one centre.

    Glyphs differ in shape, so that even a perfect exchange does not reach 1.
    """
    boxes = []
    for name in (noun, other):
        height, width = glyph_shape(NOUNS[name].emoji)
        boxes.append((-width / 2, -height / 2, width / 2, height / 2))
    return iou(*boxes)


def box_cover(box: Box, side: tuple[int, int]) -> Tensor:
    """Return which part of each cell of a map of ``side`` (h, w) lies in a box, 0 to 1."""
    h, w = side
    return _cover(box[1], box[3], h)[:, None] * _cover(box[0], box[2], w)[None]


def _cover(start: float, end: float, cells: int) -> Tensor:
    edges = torch.arange(cells + 1) / cells
    shared = edges[1:].clamp(max=end) - edges[:-1].clamp(min=start)
    return (shared * cells).clamp(0, 1)


def mass_inside(heat: Tensor, box: Box) -> float:
    """Return the share of a map (h, w), which is >= 0, that lies in a box."""
    return float((heat * box_cover(box, heat.shape)).sum() / heat.sum())


def colour_distances(pictures: Tensor, names: Sequence[str]) -> list[float]:
    """Return how far each picture's border is from a named colour, in RGB of 0..255.

    The border's colour is its median, as ``nearest_colours`` takes it.
    """
    median = border_pixels(pictures.float()).median(dim=-1).values  # (B, 3)
    wanted = torch.tensor([COLOURS[name].rgb for name in names], dtype=torch.float32)
    return ((median + 1) * 127.5 - wanted).norm(dim=1).tolist()


def falls(values: Sequence[float]) -> bool:
    """Tell whether each value is below the one before."""
    return all(later < earlier for earlier, later in zip(values, values[1:], strict=False))


def difference_outside(picture: Tensor, other: Tensor, boxes: Sequence[Box]) -> float:
    """Return the mean absolute difference of two pictures (3, H, W) outside boxes, of 0..255.

    NaN where the boxes leave nothing.
    """
    outside = torch.ones(picture.shape[-2:])
    for box in boxes:
        outside *= (box_cover(box, picture.shape[-2:]) == 0).float()
    total = ((picture - other).abs().mean(0) * outside).sum() * 127.5
    return float(total / outside.sum()) if outside.any() else math.nan


@dataclass(frozen=True)
class SwapScore:
    """How a list of swaps went; shares and IoU in [0, 1].

    Attributes:
        drawn: The new noun is what is seen.
        old: The old noun is still what is seen.
        background: The background has the name that the source's has.
        iou: Mean over pictures, of the thing's box here and in the source.
        outside: Mean absolute difference from the source outside both boxes, of 0..255.
    """

    drawn: float
    old: float
    background: float
    iou: float
    outside: float


def score_swaps(
    swaps: Sequence[Swap],
    sources: tuple[Tensor, Sequence[Sight]],
    edits: tuple[Tensor, Sequence[Sight]],
) -> SwapScore:
    """Compare edited pictures with their sources.

    Args:
        swaps: What was asked.
        sources: The sources' pictures and what is seen in them.
        edits: The edited ones.
    """
    rows = list(zip(swaps, *sources, *edits, strict=True))
    return SwapScore(
        drawn=mean(now.found[0].noun == swap.noun for swap, _, _, _, now in rows),
        old=mean(now.found[0].noun == swap.scene.objects[0] for swap, _, _, _, now in rows),
        background=mean(now.background == was.background for _, _, was, _, now in rows),
        iou=mean(iou(was.found[0].box, now.found[0].box) for _, _, was, _, now in rows),
        outside=mean(
            difference_outside(before, after, [was.found[0].box, now.found[0].box])
            for _, before, was, after, now in rows
        ),
    )


def mean(values: Iterable[float]) -> float:
    """Return the mean of what is no NaN; NaN if nothing is left."""
    values = [float(value) for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan

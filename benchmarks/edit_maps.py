"""Where the word for a thing looks: which share of its map lies inside the thing's box.

Shapes: n pictures of a batch, h w sides of a map, L tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.edit_draws import WindowedStore
from benchmarks.edit_measures import mass_inside
from benchmarks.scene_oracle import Sight
from ldm.data.demo.scene_layout import Box
from ldm.data.demo.scene_vocabulary import COLOURS
from ldm.data.demo.scenes import Scene
from ldm.modules.attention_control.sites import nearest_rate
from ldm.modules.attention_control.windows import Window
from ldm.modules.attention_control.words import read_prompt

ALL, EARLY, LATE = (0.0, 1.0), (0.0, 0.5), (0.5, 1.0)
LOOKS: tuple[Window, ...] = (ALL, EARLY, LATE)
PLAIN = "mean of all steps, down and up"


def nearest_maps(store: WindowedStore) -> Tensor:
    """Return the mean of the layers down and up at the rate nearest to 4: (n, h, w, L)."""
    return store.aggregate(nearest_rate(store.sites.values()))


def all_maps(store: WindowedStore) -> Tensor:
    """Return the mean of all layers, the small ones enlarged: (n, h, w, L).

    DAAM (arXiv:2210.04885) sums all heads and layers so.
    """
    sides = {site.path: site.side for site in store.sites.values()}
    largest = max(sides.values())
    total = 0
    for path, side in sides.items():
        maps = store.mean(path).mean(1).transpose(1, 2).unflatten(2, side)  # (n, L, h, w)
        total = total + F.interpolate(maps, largest, mode="bilinear", align_corners=False)
    return total.movedim(1, -1) / len(sides)


VARIANTS: dict[str, tuple[Window, Callable[[WindowedStore], Tensor]]] = {
    PLAIN: (ALL, nearest_maps),
    "mean of all steps, all layers": (ALL, all_maps),
    "first half of the steps, down and up": (EARLY, nearest_maps),
    "second half of the steps, down and up": (LATE, nearest_maps),
}


def shares_inside(
    stores: Sequence[dict[Window, WindowedStore]],
    scenes: Sequence[Scene],
    sights: Sequence[Sight],
    tokenizer: Any,
) -> dict[str, list[float]]:
    """Return for each variant the share of each noun's map in the thing's box, 0 to 1.

    Args:
        stores: The maps of each batch by window, together as many pictures as scenes.
        scenes: Of one object.
        sights: What is seen in each picture; the box is taken from it.
        tokenizer: The text encoder's.
    """
    tokens = [read_prompt(tokenizer, each.caption).positions(each.objects[0]) for each in scenes]
    boxes: list[Box] = [sight.found[0].box for sight in sights]
    shares: dict[str, list[float]] = {}
    for name, (window, maps_of) in VARIANTS.items():
        heats = [heat for batch in stores for heat in maps_of(batch[window])]  # (h, w, L) each
        shares[name] = [
            mass_inside(heat[..., list(positions)].sum(-1), box)
            for heat, positions, box in zip(heats, tokens, boxes, strict=True)
        ]
    return shares


def attention_by_token(
    stores: Sequence[dict[Window, WindowedStore]], scenes: Sequence[Scene], tokenizer: Any
) -> dict[str, float]:
    """Return which share of the attention of the layers down and up each kind of token has."""
    maps = torch.cat([nearest_maps(batch[ALL]) for batch in stores]).mean((1, 2))  # (n, L)
    shares = dict.fromkeys(("start", "noun", "colour", "other words", "end", "padding"), 0.0)
    for row, scene in zip(maps, scenes, strict=True):
        prompt = read_prompt(tokenizer, scene.caption)
        noun, colour = (
            float(row[list(prompt.positions(word))].sum())
            for word in (scene.objects[0], COLOURS[scene.background].english)
        )
        words = float(row[prompt.start : prompt.count].sum())
        found = {
            "start": float(row[: prompt.start].sum()),
            "noun": noun,
            "colour": colour,
            "other words": words - noun - colour,
            "end": float(row[prompt.count]),
            "padding": float(row[prompt.count + 1 :].sum()),
        }
        shares = {name: shares[name] + value / len(scenes) for name, value in found.items()}
    return shares

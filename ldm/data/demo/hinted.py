"""Demo scenes with a drawing of where the thing stands, for adapters that obey drawings.

Shapes: pictures are (H, W, 3) float32 in [-1, 1], hints (H, W, 3) in [0, 1], RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ldm.data.demo.scene_layout import Box, off_centre_box
from ldm.data.demo.scenes import SceneDataset, Split, Subject, pixels_of


class BoxedScenes(SceneDataset):
    """Lone small things away from the middle, and a white box where each stands.

    A model of the demo scenes puts lone things near the middle; only the box tells where.

    Args:
        size: Side of the pictures in pixels.
        length: Number of items.
        seed: Which sequence, >= 0.
        split: "train" or "heldout", as in ``SceneDataset``.
        languages: Of the captions.
    """

    def __init__(
        self,
        size: int = 64,
        length: int = 100_000,
        seed: int = 0,
        split: Split = "train",
        languages: Sequence[str] = ("en",),
    ):
        super().__init__(size, length, seed, split, languages, pair_share=0.0)

    def subject(self, rng: np.random.Generator) -> Subject:
        """Draw a small thing."""
        return replace(super().subject(rng), size="small")

    def place(self, subject: Subject, rng: np.random.Generator) -> tuple[Box, ...]:
        """Return its box, in a quarter of the picture."""
        return off_centre_box(subject.objects[0], subject.size, rng)

    def __getitem__(self, k: int) -> dict[str, Any]:
        """Return {"jpg", "txt", "hint"}."""
        scene = self.scene(k)
        hint = torch.from_numpy(box_hint(scene.boxes[0], self.size))
        return {**super().__getitem__(k), "hint": hint}


def box_hint(box: Box, size: int) -> np.ndarray:
    """Draw a box in white on black: (size, size, 3) float32 in [0, 1]."""
    hint = np.zeros((size, size, 3), dtype=np.float32)
    rows, columns = pixels_of(box, size)
    hint[rows, columns] = 1
    return hint

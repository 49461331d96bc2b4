"""Pictures of one emoji that is not among the demo's nouns, for textual inversion.

Shapes: pictures are (H, W, 3) float32 in [-1, 1], RGB.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from ldm.data.demo.glyphs import find_font
from ldm.data.demo.scene_captions import english_caption
from ldm.data.demo.scene_layout import lone_box
from ldm.data.demo.scene_vocabulary import COLOURS, NOUNS, SIZES
from ldm.data.demo.scenes import Scene, render
from ldm.errors import UserError


class GlyphDataset(Dataset):
    """One emoji at the sizes and places and on the backgrounds of the demo's lone things.

    Item k depends on ``seed`` and k alone.

    Args:
        emoji: The character sequence that the emoji font draws as one glyph.
        placeholder: The word that stands for it in the captions.
        size: Side of the pictures in pixels.
        length: Number of items.
        seed: Which sequence, >= 0.

    Raises:
        UserError: The emoji is one of the demo's own, or there is no emoji font.
    """

    def __init__(
        self,
        emoji: str,
        placeholder: str = "*",
        size: int = 64,
        length: int = 512,
        seed: int = 0,
    ):
        own = [name for name, noun in NOUNS.items() if noun.emoji == emoji]
        if own:
            raise UserError(
                f"emoji is {emoji}, which the model knows as {own[0]!r}; expected one that is not "
                "among the demo's nouns; choose another in the config"
            )
        find_font()  # a missing font is told now, not by a worker during training
        self.emoji, self.placeholder = emoji, placeholder
        self.size, self.length, self.seed = size, length, seed

    def __len__(self) -> int:
        return self.length

    def scene(self, k: int) -> Scene:
        """Return item k, not yet drawn.

        Raises:
            IndexError: k is outside ``range(len(self))``.
        """
        if not 0 <= k < self.length:
            raise IndexError(f"item {k} of a data set of {self.length}")
        rng = np.random.default_rng((self.seed, k))
        size, colour = (list(table)[rng.integers(len(table))] for table in (SIZES, COLOURS))
        boxes = lone_box(self.emoji, size, rng)
        caption = english_caption(
            (self.placeholder,), size, None, colour, lambda some: some[int(rng.integers(len(some)))]
        )
        return Scene((self.emoji,), boxes, colour, (1.0, 1.0), None, size, "en", caption)

    def __getitem__(self, k: int) -> dict[str, torch.Tensor | str]:
        """Return {"jpg": (size, size, 3) float32 in [-1, 1], "txt": caption}."""
        scene = self.scene(k)
        return {"jpg": torch.from_numpy(render(scene, self.size)), "txt": scene.caption}

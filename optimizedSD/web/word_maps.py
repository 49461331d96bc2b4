"""Where each word of a picture's prompt looks: watched while it is drawn, shown as heat maps.

    WordMaps (a controller)  ->  Looks (small, kept with the picture)  ->  heat_maps (to be shown)

Shapes: P prompts, n pictures of each; rows [n of the first prompt, n of the second, ...]; h w sides
of a map, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from ldm.images.io import load_image
from ldm.modules.attention_control.moments import Moment
from ldm.modules.attention_control.sites import Site, nearest_rate
from ldm.modules.attention_control.store import AttentionStore
from ldm.modules.attention_control.words import TokenizedPrompt
from ldm.pipelines.attention_panels import overlay, word_maps
from ldm.pipelines.progress import Picture

TILE = 256  # pixels of a heat map's longer side


@dataclass(frozen=True)
class Looks:
    """Where the words of a picture's prompt look.

    Attributes:
        words: In the prompt's order.
        maps: uint8 (words, h, w); 255 is where a word looks most.
    """

    words: tuple[str, ...]
    maps: np.ndarray


class WordMaps(AttentionStore):
    """Keeps the mean maps of the published resolution, or the nearest there is; changes nothing.

    Args:
        prompts: As the text encoder reads them.
        pictures: n.
    """

    def __init__(self, prompts: Sequence[TokenizedPrompt], pictures: int) -> None:
        self.prompts, self.pictures = tuple(prompts), pictures
        super().__init__(("cross",), least_rate=1, keep_heads=False, dtype=torch.float32)

    def begin(self, sites: Sequence[Site]) -> None:
        super().begin(sites)
        cross = [site for site in sites if site.kind == "cross"]
        self._rate = nearest_rate(cross) if cross else 0
        outer = any(site.place != "mid" for site in cross)
        self.places = ("down", "up") if outer else ("mid",)

    def wants(self, site: Site, moment: Moment) -> bool:
        return site.rate == self._rate and super().wants(site, moment)

    def looks(self, picture: Picture) -> Looks | None:
        """Return where the words of a picture of the last batch look; None if nobody looked."""
        prompt = self.prompts[picture.number]
        words = prompt.words()
        if not words or not self.sites:
            return None
        row = picture.number * self.pictures + picture.place.row
        means = self.aggregate(self._rate, places=self.places)[row]  # (h, w, L)
        maps = word_maps(means.numpy(), words)
        peaks = maps.max(axis=(1, 2), keepdims=True).clip(np.finfo(np.float32).tiny)
        scaled = np.round(maps / peaks * 255).astype(np.uint8)
        return Looks(tuple(word.text for word in words), scaled)


def heat_maps(path: Path, looks: Looks) -> Iterator[tuple[Image.Image, str]]:
    """Yield a picture with the heat of each word over it, and the word.

    Args:
        path: The picture.
        looks: Its.

    Raises:
        UserError: The picture is gone.
    """
    picture = ImageOps.contain(load_image(path), (TILE, TILE), Image.Resampling.LANCZOS)
    for word, heat in zip(looks.words, looks.maps, strict=True):
        yield Image.fromarray(overlay(np.asarray(picture), heat / 255.0)), word

"""Image-to-image on a canvas larger than the model draws: all tiles at once, step by step.

Every step predicts each tile by itself and blends the predictions, weighted towards the tiles'
middles (MultiDiffusion, arXiv:2302.08113), so one walk with one noise field draws the whole; no
tile is ever finished by itself, and none has a border in the result. The autoencoder runs in
strips, which give the picture of one piece. The network never sees more than a tile.

Shapes: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ldm.images.io import to_tensor
from ldm.images.padding import reflected
from ldm.models.diffusion.sampler import Sampler
from ldm.models.first_stage import KLFirstStage
from ldm.models.tiling.patches import SplitInput
from ldm.pipelines.initial_latents import EncodedPicture
from ldm.pipelines.networks import TILE_UPSCALERS, find_network
from ldm.pipelines.walks import ImageWalk
from ldm.rng import NoiseSource
from ldm.types import SamplerState
from ldm.wrapping import Wrapping, with_attribute


class TileWalk(ImageWalk):
    """Image-to-image in overlapping tiles.

    An autoencoder of another kind than ``KLFirstStage`` encodes and decodes in one piece.
    """

    @property
    def split(self) -> SplitInput:
        """How latents are cut."""
        choice = self.request.choice
        sides = self.settings.tiling(choice.size, choice.multiple)
        tile, stride = sides[0] // choice.factor, max(1, (sides[0] - sides[1]) // choice.factor)
        return SplitInput(ks=(tile, tile), stride=(stride, stride))

    def encode(self) -> None:
        """Encode the enlarged picture, and draw what the run shares."""
        if self.settings.network is not None:
            self._picture = EncodedPicture(self.model, to_tensor(self._by_network()))
        with self._in_strips():
            super().encode()

    def _by_network(self) -> Image.Image:
        """Return the picture enlarged by the network, padded as the one enlarged by Lanczos is."""
        from ldm.pipelines.enlarging import enlarge_to
        from ldm.upscalers.upscaler import kept_upscaler

        image = self.request.image
        network = kept_upscaler(find_network(TILE_UPSCALERS, self.settings.network), self.device)
        small = image.small or image.pixels
        enlarged = enlarge_to(small, network, image.size, self.cancel).convert("RGB")
        width, height = image.pixels.size
        return Image.fromarray(reflected(np.asarray(enlarged), height, width))

    def decode(self, x: Tensor) -> Tensor:
        """Decode latents (B, C, h, w) to pictures (B, 3, H, W) in [-1, 1]."""
        with self._in_strips():
            return super().decode(x)

    def begin(
        self, sampler: Sampler, noise: NoiseSource, rows: int, **conditioning: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Add noise to the whole canvas as ``strength`` says, and start the sampler on it."""
        x, states = super().begin(sampler, noise, rows, **conditioning)
        return x, self._in_tiles(states)

    def _in_tiles(self, states: Iterator[SamplerState]) -> Iterator[SamplerState]:
        """Take the steps with the model's network working in tiles."""
        with with_attribute(self.model, "split_input_params", self.split):
            yield from states

    @contextmanager
    def _in_strips(self) -> Iterator[None]:
        """Let the autoencoder work in strips inside the block."""
        from ldm.models.tiling.tiled import decode_in_tiles, encode_in_tiles

        first_stage, wrapping = self.model.first_stage_model, Wrapping()
        for name, work in (("encode", encode_in_tiles), ("decode", decode_in_tiles)):
            if getattr(type(first_stage), name, None) is getattr(KLFirstStage, name):
                wrapping.put(first_stage, name, lambda _, x, work=work: work(first_stage, x))
        try:
            yield
        finally:
            wrapping.undo()

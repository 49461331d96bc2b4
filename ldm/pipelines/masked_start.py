"""What inpainting starts from, and how the kept part stays.

RePaint without resampling (arXiv:2201.09865, Algorithm 1 with U = 1), as the reference's samplers
have it: before every step the kept cells are replaced by the first picture at that step's noise
level. One thing is added: after the last step they are replaced by the picture without noise, so
that the decoder sees the exact surroundings of what was repainted.

Random draws are image-to-image's, and one (B, C, h, w) more before each step.
Shape legend: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ldm.images.io import to_tensor
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.sampler import Sampler
from ldm.pipelines.inpaint import InpaintSettings
from ldm.pipelines.inputs import InitImage
from ldm.pipelines.starts import ImageStart
from ldm.rng import NoiseSource
from ldm.types import Conditioning, SamplerState


class RepaintStart(ImageStart):
    """Image-to-image that at strength 1 starts from noise alone, as all inpainting does."""

    @property
    def from_noise(self) -> bool:
        """Whether nothing of the picture is under the mask when sampling starts."""
        return self.settings.strength == 1.0

    def steps(self, sampler: Sampler) -> int:
        """Return how many of the sampler's steps ``strength`` leaves: at 1 every one."""
        return sampler.steps if self.from_noise else super().steps(sampler)


class MaskedStart(RepaintStart):
    """Inpainting: sampling starts as image-to-image does, and keeps what the mask leaves out.

    Args:
        settings: The run's.
        image: The fitted picture with its mask.
        model: A latent diffusion model.
    """

    def __init__(self, settings: InpaintSettings, image: InitImage, model: LatentDiffusion) -> None:
        super().__init__(settings, to_tensor(image.pixels), model)
        kept = torch.from_numpy(~image.mask.cells(settings.f)).float()
        self._keep = kept[None, None].to(self.device)  # (1, 1, h, w), 1 where the picture stays

    @torch.no_grad()
    def walk(
        self, sampler: Sampler, noise: NoiseSource, rows: int, cond: Conditioning, **guidance: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Start the sampler from the noised picture, at strength 1 from noise alone."""
        latents = self.latents(noise, rows)
        start_noise, steps = self.start_noise(noise, rows), self.steps(sampler)
        # The last entry of the noise table still holds some per cent of the picture.
        x = start_noise if self.from_noise else self.noised(sampler, latents, start_noise)
        masked = {"mask": self._keep, "x0": latents}
        states = sampler.walk(x, cond, t_start=steps, noise=noise, **masked, **guidance)
        return x, self._settled(states, latents)

    def _settled(self, states: Iterator[SamplerState], latents: Tensor) -> Iterator[SamplerState]:
        """Pass the steps on, the last one with the picture itself in the kept cells."""
        for state in states:
            if state.i + 1 == state.total:
                keep = self._keep.to(state.x)
                yield replace(state, x=keep * latents.to(state.x) + (1.0 - keep) * state.x)
            else:
                yield state

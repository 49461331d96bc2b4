"""What inpainting starts from, and how the kept part stays, for each kind of model.

A model that draws from text: RePaint without resampling (arXiv:2201.09865, Algorithm 1 with
U = 1), as the reference's samplers have it: before every step the kept cells are replaced by the
init image at that step's noise level. One thing is added: after the last step they are replaced
by the picture without noise, so that the decoder sees the exact surroundings of what was
repainted. Random draws are image-to-image's, and one (B, C, h, w) more before each step.

A model that was made for inpainting sees mask and surroundings, in every step the same:

    noisy latents (B, C, h, w) | mask (B, 1, h, w) | latents of the masked picture (B, C, h, w)

is what the UNet is given, joined on the channels: text-guided checkpoints of 2C + 1 = 9 channels
(runwayml's sd-v1-5-inpainting, Stable Diffusion 2's) in this order, latent-diffusion's
``inpainting_big`` of 7 with the mask last. Random draws: the masked picture's posterior, the
picture's (below strength 1), the start noise.

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
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.initial_latents import EncodedPicture, ImageLatents, InitialLatents
from ldm.rng import NoiseSource
from ldm.settings.inpaint import InpaintSettings
from ldm.types import Conditioning, SamplerState


class RepaintStart(ImageLatents):
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


# What the models were trained to find under the mask, in [-1, 1].
GREY, BLACK = 0.0, -1.0


def hide(image: InitImage, value: float) -> Tensor:
    """Return a picture (1, 3, H, W) in [-1, 1] with ``value`` where its mask marks it."""
    marked = torch.from_numpy(image.mask.marked.copy())
    return torch.where(marked, value, to_tensor(image.pixels))


def mask_map(image: InitImage, factor: int) -> Tensor:
    """Return a mask at latent size, (1, 1, h, w): 1 where to repaint, else 0."""
    return torch.from_numpy(image.mask.samples(factor).copy()).float()[None, None]


class InpaintStart(RepaintStart):
    """Text-guided inpainting by a model with hybrid conditioning.

    At strength 1 sampling starts from noise alone, as in the reference; below, from the picture
    with noise on it.

    Args:
        settings: The run's.
        image: The picture, of a size for the model, with its mask.
        model: A latent diffusion model whose ``conditioning_key`` is ``hybrid``.
    """

    def __init__(self, settings: InpaintSettings, image: InitImage, model: LatentDiffusion) -> None:
        super().__init__(settings, to_tensor(image.pixels), model)
        self._surroundings = EncodedPicture(model, hide(image, GREY))
        self._mask = mask_map(image, settings.f).to(self.device)

    @property
    def encoded(self) -> tuple[EncodedPicture, ...]:
        """The masked picture, and the picture where sampling starts from it."""
        return (self._surroundings,) if self.from_noise else (self._surroundings, self._picture)

    @torch.no_grad()
    def walk(
        self, sampler: Sampler, noise: NoiseSource, rows: int, cond: Conditioning, **guidance: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Start the sampler with mask and surroundings beside the text.

        Args:
            sampler: With its schedule made.
            noise: Where the batch's random numbers come from.
            rows: B, its number of pictures.
            cond: Encoded texts (B, L, D).
            **guidance: Further keywords of ``Sampler.walk``.
        """
        surroundings = self._surroundings.latents(noise, rows)
        maps = torch.cat([self._mask.expand(rows, -1, -1, -1), surroundings], dim=1)
        uncond = guidance.get("unconditional_conditioning")
        if uncond is not None:
            guidance["unconditional_conditioning"] = _hybrid(uncond, maps)
        cond = _hybrid(cond, maps)
        if not self.from_noise:
            return super().walk(sampler, noise, rows, cond, **guidance)
        x = self.start_noise(noise, rows)
        return x, sampler.walk(x, cond, noise=noise, **guidance)


class FillStart(InitialLatents):
    """Inpainting without text, by a model with concat conditioning: latent-diffusion's way.

    The conditioning is (B, C' + 1, h, w): the masked picture as the conditioner encodes it, which
    is not scaled as latents are, and the mask in [-1, 1].

    Args:
        settings: The run's.
        image: The picture, of a size for the model, with its mask.
        model: A latent diffusion model whose conditioner is its first stage.
    """

    def __init__(self, settings: InpaintSettings, image: InitImage, model: LatentDiffusion) -> None:
        width, height = image.pixels.size
        super().__init__(settings, (height, width), model.device)
        self._model = model
        self._visible = hide(image, BLACK)
        self._mask = 2.0 * mask_map(image, settings.f).to(self.device) - 1.0

    @torch.no_grad()
    def open(self) -> None:
        """Encode what is around the mask, and draw what the run shares."""
        encoded = self._model.get_learned_conditioning(self._visible.to(self.device)).float()
        self._cond = torch.cat([encoded, self._mask], dim=1)
        super().open()

    def is_finite(self) -> bool:
        """Tell whether what was encoded is all finite numbers."""
        return bool(self._cond.isfinite().all())

    def walk(
        self, sampler: Sampler, noise: NoiseSource, rows: int, cond: Conditioning, **guidance: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Start the sampler from noise with mask and surroundings; ``cond`` is None, no text."""
        assert cond is None
        around = self._cond.expand(rows, -1, -1, -1)
        return super().walk(sampler, noise, rows, {"c_concat": [around]}, **guidance)


def _hybrid(tokens: Conditioning, maps: Tensor) -> Conditioning:
    return {"c_concat": [maps], "c_crossattn": [tokens]}

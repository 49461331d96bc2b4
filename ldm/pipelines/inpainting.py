"""What inpainting starts from, and how the kept part is preserved, for each kind of model.

Models that draw from text use RePaint without resampling (arXiv:2201.09865, Algorithm 1 with
U = 1), as the reference's samplers do: before every step the kept cells are replaced by the init
image at that step's noise level. One thing is added: after the last step they are replaced by the
noise-free picture, so that the decoder sees the exact surroundings of what was repainted. Random
draws are those of image-to-image, plus one (B, C, h, w) before each step.

Models made for inpainting see the mask and its surroundings, the same in every step. The UNet is
given, concatenated along the channels,

    noisy latents (B, C, h, w) | mask (B, 1, h, w) | latents of the masked picture (B, C, h, w)

in this order for text-guided checkpoints with 2C + 1 = 9 channels (runwayml's sd-v1-5-inpainting,
Stable Diffusion 2's), and with the mask last for latent-diffusion's ``inpainting_big``, which has
7. Random draws: the masked picture's posterior, the picture's (below strength 1), the start noise.

Shape legend: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ldm.images.io import to_tensor
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.models.diffusion.sampler import Sampler
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.initial_latents import EncodedPicture
from ldm.pipelines.request import Request
from ldm.pipelines.walks import ImageWalk, TextWalk
from ldm.rng import NoiseSource
from ldm.types import SamplerState

# What the models were trained to find under the mask, in [-1, 1].
GREY, BLACK = 0.0, -1.0


class RepaintWalk(ImageWalk):
    """Image-to-image that starts from pure noise at strength 1, as all inpainting does.

    Args:
        request: What is wanted; its init image has a mask.
        model: A latent diffusion model with a text encoder.
        device: Where the latents are.
    """

    def __init__(self, request: Request, model: LatentSpaceDiffusion, device: torch.device) -> None:
        super().__init__(request, model, device)
        kept = torch.from_numpy(~request.image.mask.cells(self.settings.f)).float()
        self._keep = kept[None, None].to(device)  # (1, 1, h, w), 1 where the picture stays

    def latents(self, noise: NoiseSource, rows: int) -> Tensor:
        """Return the picture (B, C, h, w), with noise or nothing under the mask if asked for."""
        latents = super().latents(noise, rows)
        filling = getattr(self.settings, "filling", None)  # edits have masks of another kind
        if self.from_noise or filling not in ("noise", "nothing"):
            return latents
        other = torch.zeros_like(latents)
        if filling == "noise":
            other = noise.randn(latents.shape, latents.device, latents.dtype)
        return self._keep * latents + (1.0 - self._keep) * other

    @property
    def from_noise(self) -> bool:
        """Whether sampling starts from pure noise, with nothing of the picture under the mask."""
        return self.settings.strength == 1.0

    def steps(self, sampler: Sampler) -> int:
        """Return how many of the sampler's steps ``strength`` leaves: all of them at 1."""
        return sampler.steps if self.from_noise else super().steps(sampler)


class MaskedWalk(RepaintWalk):
    """Inpainting by a model that draws from text: everything outside the mask is kept."""

    @torch.no_grad()
    def begin(
        self, sampler: Sampler, noise: NoiseSource, rows: int, **conditioning: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Start the sampler from the noised picture, or at strength 1 from pure noise."""
        latents = self.latents(noise, rows)
        start_noise, steps = self.start_noise.draw(noise, rows), self.steps(sampler)
        # The last entry of the noise table still contains a few per cent of the picture.
        x = start_noise if self.from_noise else self.noised(sampler, latents, start_noise)
        masked = {"mask": self._keep, "x0": latents}
        states = sampler.walk(x, t_start=steps, noise=noise, **masked, **conditioning)
        return x, self._settled(states, latents)

    def _settled(self, states: Iterator[SamplerState], latents: Tensor) -> Iterator[SamplerState]:
        """Pass the steps through; the last one has the picture itself in the kept cells."""
        for state in states:
            if state.i + 1 == state.total:
                keep, known = self._keep.to(state.x), latents.to(state.x)
                # Several prompts in one batch repeat the pictures.
                known = known.repeat(len(state.x) // len(known), 1, 1, 1)
                yield replace(state, x=keep * known + (1.0 - keep) * state.x)
            else:
                yield state


class HybridWalk(RepaintWalk):
    """Text-guided inpainting by a model with hybrid conditioning.

    At strength 1 sampling starts from pure noise, as in the reference; below 1, from the noised
    picture.

    Args:
        request: What is wanted; its init image has a mask and a size that fits the model.
        model: A latent diffusion model whose ``conditioning_key`` is ``hybrid``.
        device: Where the latents are.
    """

    def __init__(self, request: Request, model: LatentSpaceDiffusion, device: torch.device) -> None:
        super().__init__(request, model, device)
        self._surroundings = EncodedPicture(model, hide(request.image, GREY))
        self._mask = mask_map(request.image, self.settings.f).to(device)

    @property
    def encoded(self) -> tuple[EncodedPicture, ...]:
        """The masked picture, and the picture itself if sampling starts from it."""
        return (self._surroundings,) if self.from_noise else (self._surroundings, self._picture)

    @torch.no_grad()
    def begin(
        self, sampler: Sampler, noise: NoiseSource, rows: int, **conditioning: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Start the sampler, conditioned on the mask and its surroundings as well as the text."""
        surroundings = self._surroundings.latents(noise, rows)
        maps = torch.cat([self._mask.expand(rows, -1, -1, -1), surroundings], dim=1)
        for key in conditioning.keys() & {"cond", "unconditional_conditioning"}:
            conditioning[key] = {"c_concat": [maps], "c_crossattn": [conditioning[key]]}
        if not self.from_noise:
            return super().begin(sampler, noise, rows, **conditioning)
        x = self.start_noise.draw(noise, rows)
        return x, sampler.walk(x, noise=noise, **conditioning)


class FillWalk(TextWalk):
    """Inpainting without text, by a model with concat conditioning, as in latent-diffusion.

    The conditioning is (B, C' + 1, h, w): the masked picture as the conditioner encodes it, not
    scaled as latents are, and the mask in [-1, 1].

    Args:
        request: What is wanted; its init image has a mask and a size that fits the model.
        model: A latent diffusion model whose conditioner is its first stage.
        device: Where the latents are.
    """

    def __init__(self, request: Request, model: LatentSpaceDiffusion, device: torch.device) -> None:
        super().__init__(request, model, device)
        self._visible = hide(request.image, BLACK)
        self._mask = 2.0 * mask_map(request.image, self.settings.f).to(device) - 1.0

    @torch.no_grad()
    def encode(self) -> None:
        """Encode what is around the mask, and draw what the run shares."""
        encoded = self.model.get_learned_conditioning(self._visible.to(self.device)).float()
        self._around = torch.cat([encoded, self._mask], dim=1)
        super().encode()

    def is_finite(self) -> bool:
        """Return whether every encoded value is finite."""
        return bool(self._around.isfinite().all())

    def condition(
        self,
        prompts: Sequence[str],
        negatives: Sequence[str] = (),  # noqa: ARG002 - of models with text
    ) -> dict[str, Any]:
        """Return the mask and its surroundings; the model takes neither text nor guidance."""
        return {"cond": {"c_concat": [self._around.expand(len(prompts), -1, -1, -1)]}}


def hide(image: InitImage, value: float) -> Tensor:
    """Return a picture (1, 3, H, W) in [-1, 1] with ``value`` wherever its mask is set."""
    marked = torch.from_numpy(image.mask.marked.copy())
    return torch.where(marked, value, to_tensor(image.pixels))


def mask_map(image: InitImage, factor: int) -> Tensor:
    """Return a mask at latent size, (1, 1, h, w): 1 where to repaint, else 0."""
    return torch.from_numpy(image.mask.samples(factor).copy()).float()[None, None]

"""Text-to-image in two walks: a small picture, then the same enlarged and redrawn in part.

    noise -> walk at the first size -> enlarge the latent, or decode, enlarge and encode
          -> noise as ``hires_strength`` says -> walk at the final size

Shapes: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ldm.images.io import to_tensor, to_uint8
from ldm.models.diffusion.sampler import Sampler
from ldm.pipelines.initial_latents import EncodedPicture
from ldm.pipelines.networks import HIRES_UPSCALERS, find_network
from ldm.pipelines.walks import TextWalk, sampler_for
from ldm.rng import NoiseSource
from ldm.settings.hires import LATENT_MODES
from ldm.types import SamplerState

if TYPE_CHECKING:
    from ldm.upscalers.upscaler import Upscaler


class HiresWalk(TextWalk):
    """Text-to-image that redraws its pictures at a larger size.

    The second walk's noise follows the first walk's random numbers. Encoding draws none: it takes
    the mean.
    """

    def encode(self) -> None:
        """Draw what the run shares; load the network that enlarges, if there is one."""
        super().encode()
        if self.settings.hires_network is not None:
            self._network  # noqa: B018 - loaded before anything is drawn

    def steps(self, sampler: Sampler) -> int:
        """Return how many steps both walks take."""
        return sampler.steps + self._steps_again(self._second(sampler))

    def begin(
        self, sampler: Sampler, noise: NoiseSource, rows: int, **conditioning: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Start both walks, one after the other."""
        x, states = super().begin(sampler, noise, rows, **conditioning)
        return x, self._both(x, states, sampler, noise, conditioning)

    def _both(
        self,
        x: Tensor,
        states: Iterator[SamplerState],
        sampler: Sampler,
        noise: NoiseSource,
        conditioning: dict[str, Any],
    ) -> Iterator[SamplerState]:
        state = None
        for state in states:
            yield state
        first, second = x if state is None else state.x, self._second(sampler)
        steps = self._steps_again(second)
        silent = getattr(sampler.model, "silent", False)
        larger = self._blank(first) if silent else self._enlarged(first)
        start = noise.randn(tuple(larger.shape), larger.device)
        if steps == 0:
            yield replace(state, x=larger)
            return
        x = second.stochastic_encode(larger, steps, noise=start)
        yield from second.walk(x, t_start=steps, noise=noise, **conditioning)

    def _second(self, sampler: Sampler) -> Sampler:
        """Return the sampler of the second walk: like the first, with its own number of steps."""
        steps = self.settings.hires_steps or self.settings.ddim_steps
        # The first sampler's model has its schedule already.
        settings = replace(self.settings, ddim_steps=steps, zero_terminal_snr=False)
        second = sampler_for(settings, sampler.model)
        second.around = sampler.around
        return second

    def _steps_again(self, second: Sampler) -> int:
        # As ``ImageWalk.steps`` has it.
        return min(self.settings.hires_walk_steps, second.steps)

    @property
    def _latent_size(self) -> tuple[int, int]:
        height, width = self.request.final_size
        return height // self.settings.f, width // self.settings.f

    def _blank(self, first: Tensor) -> Tensor:
        return first.new_zeros((*first.shape[:2], *self._latent_size))

    @torch.no_grad()
    def _enlarged(self, first: Tensor) -> Tensor:
        """Return latents (B, C, h, w) at the final size."""
        if not first.isfinite().all():
            return torch.full_like(self._blank(first), torch.nan)  # the run tells, or tries again
        way = self.settings.hires_upscaler
        if way in LATENT_MODES:
            return F.interpolate(first.float(), self._latent_size, **LATENT_MODES[way])
        height, width = self.request.final_size
        pictures = map(Image.fromarray, to_uint8(self.model.decode_first_stage(first)))
        pixels = [to_tensor(self._larger(each, (width, height))) for each in pictures]
        encoded = EncodedPicture(self.model, torch.cat(pixels))
        encoded.encode()
        return encoded.mean()

    def _larger(self, picture: Image.Image, size: tuple[int, int]) -> Image.Image:
        if self.settings.hires_network is None:
            return picture.resize(size, Image.Resampling.LANCZOS)
        from ldm.pipelines.enlarging import enlarge_to

        return enlarge_to(picture, self._network, size, self.cancel)

    @cached_property
    def _network(self) -> Upscaler:
        from ldm.upscalers.upscaler import kept_upscaler

        return kept_upscaler(
            find_network(HIRES_UPSCALERS, self.settings.hires_network), self.device
        )

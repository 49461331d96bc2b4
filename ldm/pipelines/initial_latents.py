"""What sampling starts from: noise, or a noised picture.

The order of the random draws is the reference's:

    whole run:  the posterior of the picture (CPU generator), then the fixed start noise if asked
    each batch: its start noise (unless fixed), then what the sampler draws in its steps

With per-image generators, picture i draws from its own in that same order.
Shape legend: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.sampler import Sampler
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.pipelines.batches import Place
from ldm.rng import GlobalNoise, NoiseSource, PerImageNoise
from ldm.settings.generation import GenerationSettings, Img2ImgSettings
from ldm.types import Conditioning, SamplerState


class InitialLatents:
    """Text-to-image: sampling starts from pure noise.

    Args:
        settings: The run's; ``C`` and ``f`` are filled in.
        size: Height and width of the pictures, in pixels.
        device: Where the latents are.
    """

    def __init__(
        self, settings: GenerationSettings, size: tuple[int, int], device: torch.device
    ) -> None:
        self.settings = settings
        self.size = size
        self.device = device
        self.latent = (settings.C, size[0] // settings.f, size[1] // settings.f)
        self._fixed: Tensor | None = None

    @property
    def per_image(self) -> bool:
        """Whether every picture has a generator of its own."""
        return self.settings.seed_mode == "per-image"

    def noise_for(self, places: Sequence[Place]) -> NoiseSource:
        """Return where the pictures at ``places`` take all their random numbers from."""
        if self.per_image:
            return PerImageNoise([self.settings.seed + place.index for place in places])
        return GlobalNoise()

    def open(self) -> None:
        """Draw what the whole run shares. Called once, just after seeding."""
        if self.settings.fixed_code:
            self._fixed = self._fixed_noise()

    def is_finite(self) -> bool:
        """Tell whether what ``open`` computed can be used."""
        return True

    def _fixed_noise(self) -> Tensor:
        """Draw the start noise (rows, C, h, w) of all batches; per-image one row serves all."""
        if self.per_image:
            return PerImageNoise([self.settings.seed]).randn((1, *self.latent), self.device)
        return GlobalNoise().randn((self.settings.n_samples, *self.latent), self.device)

    def start_noise(self, noise: NoiseSource, rows: int) -> Tensor:
        """Return the start noise (B, C, h, w) of a batch of ``rows`` pictures."""
        if self._fixed is None:
            return noise.randn((rows, *self.latent), self.device)
        if self.per_image:
            # Drawn and dropped: otherwise the first step's noise would equal the start noise.
            noise.randn((rows, *self.latent), self.device)
            return self._fixed.expand(rows, -1, -1, -1)
        return self._fixed[:rows]

    def steps(self, sampler: Sampler) -> int:
        """Return how many steps the sampler will take."""
        return sampler.steps

    def walk(
        self, sampler: Sampler, noise: NoiseSource, rows: int, cond: Conditioning, **guidance: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Start the sampler on a batch.

        Args:
            sampler: With its schedule made.
            noise: Where the batch's random numbers come from.
            rows: B, its number of pictures.
            cond: Conditioning of B rows.
            **guidance: Further keywords of ``Sampler.walk``.

        Returns:
            The latent that the steps start from (B, C, h, w), and the steps.
        """
        x = self.start_noise(noise, rows)
        return x, sampler.walk(x, cond, noise=noise, **guidance)


class EncodedPicture:
    """A picture in the first stage: its posterior, and the draws from it that a run shares.

    Args:
        model: A latent diffusion model.
        image: The picture (1, 3, H, W) in [-1, 1].
    """

    def __init__(self, model: LatentDiffusion, image: Tensor) -> None:
        self._model = model
        self._image = image
        self._shared: Tensor | None = None

    def encode(self) -> None:
        """Encode the picture, in float32 from the posterior on."""
        self._posterior = _float32(
            self._model.encode_first_stage(self._image.to(self._model.device))
        )

    def is_finite(self) -> bool:
        """Tell whether the encoded picture is all finite numbers."""
        posterior = self._posterior
        values = posterior if isinstance(posterior, Tensor) else posterior.parameters
        return bool(values.isfinite().all())

    def share(self, noise: NoiseSource, rows: int) -> None:
        """Draw the latents that every batch of the run uses, one for each row."""
        self._shared = self.draw(noise, rows)

    def draw(self, noise: NoiseSource, rows: int) -> Tensor:
        """Draw (B, C, h, w) from the posterior, a different draw for each row."""
        posterior = self._posterior
        if isinstance(posterior, Tensor):  # a VQ first stage: nothing to draw
            repeated = posterior.repeat(rows, 1, 1, 1)
        else:
            repeated = type(posterior)(posterior.parameters.repeat(rows, 1, 1, 1))
        return self._model.get_first_stage_encoding(repeated, noise=noise)

    def latents(self, noise: NoiseSource, rows: int) -> Tensor:
        """Return the latents (B, C, h, w) for a batch: the shared ones, or drawn anew."""
        return self.draw(noise, rows) if self._shared is None else self._shared[:rows]


class ImageLatents(InitialLatents):
    """Image-to-image: sampling starts part of the way, from a picture with noise on it.

    Args:
        settings: The run's.
        image: The picture (1, 3, H, W) in [-1, 1].
        model: A latent diffusion model.
    """

    def __init__(self, settings: Img2ImgSettings, image: Tensor, model: LatentDiffusion) -> None:
        super().__init__(settings, tuple(image.shape[2:]), model.device)
        self._picture = EncodedPicture(model, image)

    @property
    def encoded(self) -> tuple[EncodedPicture, ...]:
        """What is encoded, in the order that random numbers are drawn for it."""
        return (self._picture,)

    @torch.no_grad()
    def open(self) -> None:
        """Encode the picture and draw what the run shares."""
        for each in self.encoded:
            each.encode()
            if not self.per_image:
                # One latent per row of a batch, the same in every batch.
                each.share(GlobalNoise(), self.settings.n_samples)
        super().open()

    def is_finite(self) -> bool:
        """Tell whether what was encoded is all finite numbers."""
        return all(each.is_finite() for each in self.encoded)

    def _fixed_noise(self) -> Tensor:
        if not self.per_image:
            return super()._fixed_noise()
        first = PerImageNoise([self.settings.seed])
        for each in self.encoded:  # picture 0 draws its posteriors before its start noise
            each.draw(first, 1)
        return first.randn((1, *self.latent), self.device)

    def steps(self, sampler: Sampler) -> int:
        """Return how many of the sampler's steps ``strength`` leaves."""
        # int() and the float product are the reference's: strength 0.29 of 100 steps is 28.
        return min(int(self.settings.strength * self.settings.ddim_steps), sampler.steps)

    @torch.no_grad()
    def walk(
        self, sampler: Sampler, noise: NoiseSource, rows: int, cond: Conditioning, **guidance: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Noise the picture to where ``strength`` says, and start the sampler from there."""
        latents = self.latents(noise, rows)
        x = self.noised(sampler, latents, self.start_noise(noise, rows))
        return x, sampler.walk(x, cond, t_start=self.steps(sampler), noise=noise, **guidance)

    def latents(self, noise: NoiseSource, rows: int) -> Tensor:
        """Return the picture's latents (B, C, h, w) for a batch of ``rows`` pictures."""
        return self._picture.latents(noise, rows)

    def noised(self, sampler: Sampler, latents: Tensor, start_noise: Tensor) -> Tensor:
        """Return ``latents`` (B, C, h, w) with as much noise as ``strength`` says."""
        steps = self.steps(sampler)
        if steps == 0:
            # The table's entry 0 has a little noise, which no step would take away again.
            return latents
        return sampler.stochastic_encode(latents, steps, noise=start_noise)


def _float32(
    encoded: DiagonalGaussianDistribution | Tensor,
) -> DiagonalGaussianDistribution | Tensor:
    if isinstance(encoded, Tensor):
        return encoded.float()
    return type(encoded)(encoded.parameters.float(), encoded.deterministic)

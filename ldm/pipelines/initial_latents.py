"""What a walk starts from: noise, or the latents of an init image.

The order of the random draws is the reference's:

    whole run:  the posterior of the init image (CPU generator), then the fixed start noise if asked
    each batch: its start noise (unless fixed), then what the sampler draws in its steps

With per-image generators, picture i draws from its own in that same order.
Shape legend: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.pipelines.batches import Batch
from ldm.rng import GlobalNoise, NoiseSource, PartOfNoise, PerImageNoise
from ldm.settings.generation import GenerationSettings

NEAR = 0.9995  # mean cosine from which noise is turned in a straight line


class StartNoise:
    """The noise that batches start from.

    Args:
        settings: The run's; ``C`` and ``f`` are filled in.
        size: Height and width of the pictures, in pixels.
        device: Where the latents are.
    """

    def __init__(
        self, settings: GenerationSettings, size: tuple[int, int], device: torch.device
    ) -> None:
        self.settings, self.device = settings, device
        self.shape = (settings.C, size[0] // settings.f, size[1] // settings.f)
        self._fixed: Tensor | None = None
        self._other: PerImageNoise | None = None  # what a batch's noise is turned towards

    @property
    def per_image(self) -> bool:
        """Whether every picture has its own generator."""
        return self.settings.seed_mode == "per-image"

    def source(self, batch: Batch) -> NoiseSource:
        """Return the source of all random numbers for the pictures of a batch."""
        settings, numbers = self.settings, [place.index for place in batch.places]
        if settings.is_varied:
            self._other = PerImageNoise([settings.subseed + number for number in numbers])
        if self.per_image:
            return PerImageNoise([settings.seeds(number)["seed"] for number in numbers])
        return PartOfNoise(*batch.within) if batch.within else GlobalNoise()

    def fix(self, draw_before: Callable[[NoiseSource], None] = lambda _: None) -> None:
        """Draw the noise that all batches share, if ``fixed_code`` is set.

        Args:
            draw_before: Draws what picture 0 draws before its start noise.
        """
        if not self.settings.fixed_code:
            return
        if self.per_image:  # one row serves all
            first = PerImageNoise([self.settings.seed])
            draw_before(first)
            self._fixed = first.randn((1, *self.shape), self.device)
        else:
            rows = self.settings.n_samples
            self._fixed = GlobalNoise().randn((rows, *self.shape), self.device)

    def draw(self, noise: NoiseSource, rows: int) -> Tensor:
        """Return the start noise (B, C, h, w) of a batch of ``rows`` pictures."""
        drawn = self._draw(noise, rows)
        if self._other is None:
            return drawn
        other = self._other.randn(drawn.shape, self.device)
        return turned(drawn, other, self.settings.subseed_strength)

    def _draw(self, noise: NoiseSource, rows: int) -> Tensor:
        if self._fixed is None:
            return noise.randn((rows, *self.shape), self.device)
        if self.per_image:
            # Drawn and dropped: otherwise the first step's noise would equal the start noise.
            noise.randn((rows, *self.shape), self.device)
            return self._fixed.expand(rows, -1, -1, -1)
        return self._fixed[rows_of(noise, rows)]


def turned(noise: Tensor, other: Tensor, share: float) -> Tensor:
    """Turn noise (B, C, h, w) part of the way towards other noise, on the sphere between them.

    As AUTOMATIC1111's program does it, each column is turned by itself, so that its variations are
    the same: the angle is that of C w vectors of h numbers.

    Args:
        noise: Where to start.
        other: Where to go.
        share: How far, 0 to 1.
    """
    unit, goal = (each / each.norm(dim=2, keepdim=True) for each in (noise, other))
    cosine = (unit * goal).sum(dim=2, keepdim=True)
    angle = cosine.clamp(-1.0, 1.0).arccos()
    straight = (1.0 - share) * noise + share * other
    along = ((1.0 - share) * angle).sin() * noise + (share * angle).sin() * other
    # Nearly the same directions: the quotient below would be one of rounding errors.
    near = cosine.mean(dim=(1, 2, 3), keepdim=True) > NEAR
    return torch.where(near, straight, along / angle.sin())


def rows_of(noise: NoiseSource, rows: int) -> slice:
    """Return which rows of what a run shares belong to a batch of ``rows`` pictures."""
    first = noise.first if isinstance(noise, PartOfNoise) else 0
    return slice(first, first + rows)


class EncodedPicture:
    """A picture encoded by the first stage: its posterior, and the draws that a run shares.

    Args:
        model: A latent diffusion model.
        image: The picture (1, 3, H, W) in [-1, 1].
    """

    def __init__(self, model: LatentSpaceDiffusion, image: Tensor) -> None:
        self._model = model
        self._image = image
        self._shared: Tensor | None = None

    def encode(self) -> None:
        """Encode the picture, in float32 from the posterior on."""
        self._posterior = _float32(
            self._model.encode_first_stage(self._image.to(self._model.device))
        )

    def is_finite(self) -> bool:
        """Return whether every value of the encoded picture is finite."""
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

    def mean(self) -> Tensor:
        """Return the posterior's mean (1, C, h, w)."""
        posterior = self._posterior
        encoded = posterior if isinstance(posterior, Tensor) else posterior.mode()
        return self._model.get_first_stage_encoding(encoded)

    def latents(self, noise: NoiseSource, rows: int) -> Tensor:
        """Return the latents (B, C, h, w) for a batch: the shared ones, or a new draw."""
        return (
            self.draw(noise, rows) if self._shared is None else self._shared[rows_of(noise, rows)]
        )


def _float32(
    encoded: DiagonalGaussianDistribution | Tensor,
) -> DiagonalGaussianDistribution | Tensor:
    if isinstance(encoded, Tensor):
        return encoded.float()
    return type(encoded)(encoded.parameters.float(), encoded.deterministic)

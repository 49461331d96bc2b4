"""The autoencoder's posterior."""

from __future__ import annotations

import torch
from torch import Tensor

from ldm.process.gaussian import kl_between_normals, kl_standard_normal
from ldm.rng import GlobalNoise, NoiseSource

normal_kl = kl_between_normals
"""CompVis's name for it, which descendants import from here."""


class DiagonalGaussianDistribution:
    """N(mean, exp(logvar)) for every latent element.

    Args:
        parameters: Mean and log-variance (B, 2C, h, w); the latter is clamped to [-30, 20].
        deterministic: Take the variance as zero.
    """

    def __init__(self, parameters: Tensor, deterministic: bool = False):
        self.parameters = parameters
        self.deterministic = deterministic
        self.mean, logvar = parameters.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)

    @property
    def std(self) -> Tensor:
        """Standard deviation (B, C, h, w)."""
        return torch.zeros_like(self.mean) if self.deterministic else (0.5 * self.logvar).exp()

    @property
    def var(self) -> Tensor:
        """Variance (B, C, h, w)."""
        return torch.zeros_like(self.mean) if self.deterministic else self.logvar.exp()

    def sample(self, noise: NoiseSource | None = None) -> Tensor:
        """Draw a latent (B, C, h, w).

        The numbers come from the CPU generator whatever the device, as the reference draws them.
        """
        draw = (noise or GlobalNoise()).randn(self.mean.shape, "cpu")
        return self.mean + self.std * draw.to(self.mean)

    def mode(self) -> Tensor:
        """Return the most likely latent (B, C, h, w)."""
        return self.mean

    def kl(self, other: DiagonalGaussianDistribution | None = None) -> Tensor:
        """Return the divergence (B,) from ``other``, or from the standard normal, in nats.

        Summed in float32 whatever the network's precision: half numbers overflow at exp(11).
        """
        if self.deterministic:
            return torch.zeros(self.mean.shape[0], device=self.mean.device)
        mean, logvar = self.mean.float(), self.logvar.float()
        if other is None:
            return kl_standard_normal(mean, logvar)
        kl = kl_between_normals(mean, logvar, other.mean.float(), other.logvar.float())
        return kl.flatten(1).sum(1)

"""The autoencoder's posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.process.gaussian import kl_between_normals, kl_standard_normal
from ldm.rng import GlobalNoise, NoiseSource


def normal_kl(
    mean1: Tensor | float, logvar1: Tensor | float, mean2: Tensor | float, logvar2: Tensor | float
) -> Tensor:
    """Return KL(N(mean1, exp(logvar1)) || N(mean2, exp(logvar2))) element by element, in nats.

    The four broadcast against each other; numbers count as tensors of the others' dtype.

    Raises:
        ValueError: None of the four is a tensor.
    """
    given = (mean1, logvar1, mean2, logvar2)
    like = next((value for value in given if isinstance(value, Tensor)), None)
    if like is None:
        raise ValueError("four numbers given; expected a tensor among them")
    return kl_between_normals(*(v if isinstance(v, Tensor) else like.new_tensor(v) for v in given))


class AbstractDistribution:
    """What conditioners and first stages may return in place of a tensor."""

    def sample(self) -> Any:
        """Draw one."""
        raise NotImplementedError(f"{type(self).__name__} must define sample")

    def mode(self) -> Any:
        """Return the most likely one."""
        raise NotImplementedError(f"{type(self).__name__} must define mode")


class DiracDistribution(AbstractDistribution):
    """A value that is certain."""

    def __init__(self, value: Any):
        self.value = value

    def sample(self) -> Any:
        return self.value

    def mode(self) -> Any:
        return self.value


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

    def nll(self, sample: Tensor, dims: Sequence[int] = (1, 2, 3)) -> Tensor:
        """Return the negative log-likelihood of ``sample``, in nats, summed over ``dims``: (B,).

        Of a deterministic posterior it is taken as zero, as in the reference.
        """
        if self.deterministic:
            return torch.zeros(self.mean.shape[0], device=self.mean.device)
        mean, logvar = self.mean.float(), self.logvar.float()
        squared = (sample.float() - mean).square() * (-logvar).exp()
        return 0.5 * (math.log(2 * math.pi) + logvar + squared).sum(dim=list(dims))

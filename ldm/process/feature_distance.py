"""How far apart two sets of features are: the mathematics of FID and KID.

Shape legend: N, M features, D their width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal distribution fitted to features.

    Attributes:
        mean: (D,) float64.
        covariance: (D, D) float64.
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Gaussian:
        """Fit features (N, D), two or more: their mean and unbiased covariance."""
        features = features.double()
        return cls(features.mean(0), torch.cov(features.T).reshape(2 * features.shape[1:]))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Return the squared Fréchet distance of two normal distributions: arXiv:1706.08500, Eq. 6.

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) for covariances A and B. The trace of the root
    is the sum of the singular values of A^(1/2) B^(1/2), which exist where A or B is singular, and
    lose no digits there as the roots of eigenvalues near 0 would.
    """
    overlap = torch.linalg.svdvals(_root(a.covariance) @ _root(b.covariance)).sum()
    traces = a.covariance.trace() + b.covariance.trace()
    return float((a.mean - b.mean).square().sum() + traces - 2 * overlap)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def kernel_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased estimate of the squared MMD: arXiv:1801.01401, section 4.

    The kernel is k(x, y) = (x . y / D + 1)^3. Unbiased: its expectation is 0 for equal
    distributions at any N and M, so that it may come out below 0.

    Args:
        x: Features (N, D), N two or more.
        y: Features (M, D), M two or more.
    """
    x, y = x.double(), y.double()
    n, m = len(x), len(y)
    within_x, within_y, across = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    within = (within_x.sum() - within_x.trace()) / (n * (n - 1))
    within = within + (within_y.sum() - within_y.trace()) / (m * (m - 1))
    return within - 2 * across.mean()


def kernel_distances(
    x: Tensor, y: Tensor, *, size: int, count: int, generator: torch.Generator
) -> Tensor:
    """Return ``kernel_distance`` of random subsets (count,), whose mean is KID.

    Args:
        x: Features (N, D).
        y: Features (M, D).
        size: Features in a subset, at most N and M.
        count: Pairs of subsets.
        generator: Draws the subsets, on the CPU.
    """

    def subset(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]]

    return torch.stack([kernel_distance(subset(x), subset(y)) for _ in range(count)])


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1.0) ** 3

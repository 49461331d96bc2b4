"""The forward process of DDPM (arXiv:2006.11239) on tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def extract_into_tensor(a: Tensor, t: Tensor, x_shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Look up a table ``a`` (T,) at steps ``t`` (B,): (B, 1, ...), to multiply ``x_shape``."""
    return a.gather(-1, t).reshape(t.shape[0], *((1,) * (len(x_shape) - 1)))


def kl_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) summed over all but the batch: (B, ...) -> (B,), nats."""
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).flatten(1).sum(1)


def kl_between_normals(mean1: Tensor, logvar1: Tensor, mean2: Tensor, logvar2: Tensor) -> Tensor:
    """KL(N(mean1, exp(logvar1)) || N(mean2, exp(logvar2))) element by element, in nats."""
    ratio = (logvar1 - logvar2).exp()
    return 0.5 * (logvar2 - logvar1 + ratio + (mean1 - mean2).square() * (-logvar2).exp() - 1.0)

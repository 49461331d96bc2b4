"""Weights of the training loss over timesteps, in float64, and how often each is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ldm.process.prediction import Parameterization


def min_snr_weights(
    alphas_cumprod: np.ndarray, gamma: float | None, kind: Parameterization
) -> np.ndarray:
    """Return min-SNR-gamma weights (T,): arXiv:2303.09556, Eq. 4 and section 3.4.

    With SNR = alphas_cumprod / (1 - alphas_cumprod), a loss on x0 is weighted min(SNR, gamma),
    one on eps by that over SNR, one on v by that over SNR + 1. Without ``gamma`` all are 1.
    """
    alphas_cumprod = np.asarray(alphas_cumprod, dtype=np.float64)
    if gamma is None:
        return np.ones_like(alphas_cumprod)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    divisor = {"eps": snr, "x0": np.ones_like(snr), "v": snr + 1}[kind]
    return np.minimum(snr, gamma) / divisor


def variational_weights(coefficients: dict[str, np.ndarray], kind: Parameterization) -> np.ndarray:
    """Return the weights (T,) that turn the simple loss into the variational bound.

    For eps they are those of DDPM, arXiv:2006.11239, Eq. 12; for x0 the reference's, whose
    denominator is 2 - alphas_cumprod, not twice 1 - alphas_cumprod; for v, where it defines none,
    1. The first step's weight, infinite for eps, takes the second's value.
    """
    betas, cumprod = coefficients["betas"], coefficients["alphas_cumprod"]
    if kind == "v":
        return np.ones_like(betas)
    if kind == "x0":
        weights = 0.5 * np.sqrt(cumprod) / (2.0 - cumprod)
    else:
        variance = coefficients["posterior_variance"]
        with np.errstate(divide="ignore"):
            weights = betas**2 / (2 * variance * (1 - betas) * (1 - cumprod))
    weights[0] = weights[1]
    return weights


def draw_steps(
    count: int,
    num_timesteps: int,
    logit_normal: Sequence[float] | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw training steps (count,) in 0 ... T-1: all alike, or T sigmoid(z), z normal.

    Args:
        count: How many.
        num_timesteps: T.
        logit_normal: Mean and standard deviation of z (arXiv:2403.03206, section 3.1). A mean above
            0 favours noisy steps; either end, where a loss is large but teaches little, is rare.
        device: Of the result.
    """
    if logit_normal is None:
        return torch.randint(0, num_timesteps, (count,), device=device)
    mean, std = logit_normal
    drawn = torch.sigmoid(mean + std * torch.randn(count, device=device)) * num_timesteps
    return drawn.long().clamp_max(num_timesteps - 1)

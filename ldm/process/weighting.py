"""Weights of the training loss over timesteps, in float64.

A weighting is called with the coefficients of a schedule (``diffusion_coefficients``) and with what
errors are measured on, and returns one weight a step (T,). With SNR = alphas_cumprod /
(1 - alphas_cumprod), the squared error of eps is SNR times that of x0, and that of v is SNR + 1
times: a weighting of x0 is divided by these to mean the same for the other two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from ldm.errors import UserError
from ldm.process.prediction import Parameterization

Coefficients = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Unweighted:
    """Weigh all steps alike: the simple loss of DDPM, arXiv:2006.11239, Eq. 14."""

    def __call__(
        self,
        coefficients: Coefficients,
        kind: Parameterization,  # noqa: ARG002 - the interface
    ) -> np.ndarray:
        return np.ones_like(coefficients["alphas_cumprod"])


@dataclass(frozen=True)
class MinSNR:
    """Weigh an error of x0 by min(SNR, gamma): arXiv:2303.09556, Eq. 4 and section 3.4.

    Args:
        gamma: The largest weight, above 0; the paper's is 5.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        check_positive("gamma", self.gamma)

    def __call__(self, coefficients: Coefficients, kind: Parameterization) -> np.ndarray:
        snr = signal_to_noise(coefficients)
        return _divided(np.minimum(snr, self.gamma), snr, kind, limit=1.0)


@dataclass(frozen=True)
class P2:
    """Weigh an error of eps by (k + SNR)^-gamma, which favours noisy steps: arXiv:2204.00227.

    Args:
        gamma: How strongly; 0 weighs all steps alike. The paper takes 0.5 and 1.
        k: Keeps the weight of the noisiest steps finite, above 0; the paper's is 1.
    """

    gamma: float = 1.0
    k: float = 1.0

    def __post_init__(self) -> None:
        check_positive("k", self.k)

    def __call__(self, coefficients: Coefficients, kind: Parameterization) -> np.ndarray:
        snr = signal_to_noise(coefficients)
        on_x0 = snr / (self.k + snr) ** self.gamma
        return _divided(on_x0, snr, kind, limit=self.k**-self.gamma)


@dataclass(frozen=True)
class EDM:
    """Weigh an error of x0 by (sigma^2 + sigma_data^2) / (sigma sigma_data)^2: arXiv:2206.00364.

    This is lambda(sigma) of the paper's table 1, with sigma^2 = 1 / SNR. For ``sigma_data`` 1 it
    weighs errors of v alike.

    Args:
        sigma_data: Standard deviation of what is diffused, above 0: the paper's 0.5 for pictures
            in [-1, 1], 1 for scaled latents.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        check_positive("sigma_data", self.sigma_data)

    def __call__(self, coefficients: Coefficients, kind: Parameterization) -> np.ndarray:
        snr = signal_to_noise(coefficients)
        return (snr + self.sigma_data**-2) / error_ratio(snr, kind)


def signal_to_noise(coefficients: Coefficients) -> np.ndarray:
    """Return SNR = alphas_cumprod / (1 - alphas_cumprod) (T,)."""
    cumprod = coefficients["alphas_cumprod"]
    return cumprod / (1 - cumprod)


def error_ratio(snr: np.ndarray, kind: Parameterization) -> np.ndarray:
    """Return how many times the squared error of x0 that of ``kind`` is, at each step (T,)."""
    return {"eps": snr, "x0": np.ones_like(snr), "v": snr + 1}[kind]


def _divided(
    on_x0: np.ndarray, snr: np.ndarray, kind: Parameterization, limit: float
) -> np.ndarray:
    """Turn a weighting of x0 into one of ``kind``; ``limit`` is that of eps as SNR goes to 0."""
    ratio = error_ratio(snr, kind)
    return np.divide(on_x0, ratio, out=np.full_like(snr, limit), where=ratio > 0)


def is_number(value: Any) -> bool:
    """Check whether ``value`` is a real number, numpy's too, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a number above 0.

    Raises:
        UserError: The message names the parameter.
    """
    if not is_number(value) or not value > 0:
        raise UserError(
            f"{name} {value!r} given; expected a number above 0; correct it in the configuration"
        )


def variational_weights(coefficients: Coefficients, kind: Parameterization) -> np.ndarray:
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

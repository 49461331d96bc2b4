"""Noise schedules, built in float64.

Symbols: beta_t variance added at step t, alphas_cumprod = prod(1 - beta) as in
DDPM (arXiv:2006.11239, section 2), sigma = sqrt((1 - alphas_cumprod) / alphas_cumprod).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ldm.errors import UserError
from ldm.settings.samplers import BETA_SCHEDULES
from ldm.util import get_obj_from_str


def make_beta_schedule(
    schedule: str,
    n_timestep: int,
    linear_start: float = 1e-4,
    linear_end: float = 2e-2,
    cosine_s: float = 8e-3,
) -> np.ndarray:
    """Return betas (n_timestep,) in float64.

    Args:
        schedule: A name in ``ldm.settings.samplers.BETA_SCHEDULES``; CompVis's ``"linear"`` is
            linear in sqrt(beta), and diffusers calls it scaled_linear.
        n_timestep: Number of training steps.
        linear_start: First beta of the linear kinds.
        linear_end: Last beta of the linear kinds.
        cosine_s: Offset of the cosine kind.

    Raises:
        UserError: Unknown name.
    """
    if schedule not in BETA_SCHEDULES:
        *names, last = BETA_SCHEDULES
        raise UserError(f"beta_schedule {schedule!r} given; expected {', '.join(names)} or {last}")
    rule = get_obj_from_str(BETA_SCHEDULES[schedule].target)
    return rule(n_timestep, linear_start, linear_end, cosine_s)


def linear_in_root(count: int, start: float, end: float, offset: float) -> np.ndarray:  # noqa: ARG001
    """Return betas whose square roots grow evenly: CompVis's ``linear``."""
    return np.linspace(start**0.5, end**0.5, count) ** 2


def linear(count: int, start: float, end: float, offset: float) -> np.ndarray:  # noqa: ARG001
    """Return betas that grow evenly, as DDPM's do (arXiv:2006.11239, section 4)."""
    return np.linspace(start, end, count)


def root_of_linear(count: int, start: float, end: float, offset: float) -> np.ndarray:  # noqa: ARG001
    """Return betas whose squares grow evenly: CompVis's ``sqrt``."""
    return np.linspace(start, end, count) ** 0.5


def cosine(count: int, start: float, end: float, offset: float) -> np.ndarray:  # noqa: ARG001
    """Return betas of the cosine schedule (arXiv:2102.09672, Eq. 17)."""
    t = np.arange(count + 1) / count + offset
    alphas_cumprod = np.cos(t / (1 + offset) * np.pi / 2) ** 2
    return np.clip(1 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0, 0.999)


def with_zero_end(alphas_cumprod: np.ndarray) -> np.ndarray:
    """Return a schedule (T,) in float64 that ends at 0, in pure noise, and begins as it did.

    arXiv:2305.08891, Algorithm 1: sqrt(alphas_cumprod) is shifted to end at 0 and scaled to keep
    its first entry.
    """
    roots = np.sqrt(np.asarray(alphas_cumprod, dtype=np.float64))
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2


def diffusion_coefficients(
    betas: Sequence[float] | np.ndarray, v_posterior: float = 0.0
) -> dict[str, np.ndarray]:
    """Return every buffer that a CompVis checkpoint stores beside ``betas``, in float64.

    Args:
        betas: Schedule (T,).
        v_posterior: Weight of beta_t in the posterior variance, 0 for DDPM Eq. 7.
    """
    betas = np.asarray(betas, dtype=np.float64)
    alphas = 1.0 - betas
    cumprod = np.cumprod(alphas)
    previous = np.append(1.0, cumprod[:-1])
    variance = (1 - v_posterior) * betas * (1 - previous) / (1 - cumprod) + v_posterior * betas
    return {
        "betas": betas,
        "alphas_cumprod": cumprod,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": np.sqrt(cumprod),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - cumprod),
        "log_one_minus_alphas_cumprod": np.log(1 - cumprod),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / cumprod),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / cumprod - 1),
        "posterior_variance": variance,
        # The variance is 0 at the first step; its logarithm is cut there.
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(previous) / (1 - cumprod),
        "posterior_mean_coef2": (1 - previous) * np.sqrt(alphas) / (1 - cumprod),
    }

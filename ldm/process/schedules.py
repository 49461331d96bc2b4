"""Noise schedules, built in float64.

Symbols: beta_t variance added at step t, alphas_cumprod = prod(1 - beta) as in
DDPM (arXiv:2006.11239, section 2), sigma = sqrt((1 - alphas_cumprod) / alphas_cumprod).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ldm.errors import UserError


def make_beta_schedule(
    schedule: str,
    n_timestep: int,
    linear_start: float = 1e-4,
    linear_end: float = 2e-2,
    cosine_s: float = 8e-3,
) -> np.ndarray:
    """Return betas (n_timestep,) in float64.

    Args:
        schedule: CompVis's names. ``"linear"`` is linear in sqrt(beta) (diffusers calls it
            scaled_linear), ``"sqrt_linear"`` is linear in beta, ``"sqrt"`` is its square root,
            ``"cosine"`` is Eq. 17 of arXiv:2102.09672 with offset ``cosine_s``.
        n_timestep: Number of training steps.
        linear_start: First beta of the linear kinds.
        linear_end: Last beta of the linear kinds.
        cosine_s: Offset of the cosine kind.

    Raises:
        UserError: Unknown name.
    """
    if schedule == "linear":
        return np.linspace(linear_start**0.5, linear_end**0.5, n_timestep) ** 2
    if schedule == "sqrt_linear":
        return np.linspace(linear_start, linear_end, n_timestep)
    if schedule == "sqrt":
        return np.linspace(linear_start, linear_end, n_timestep) ** 0.5
    if schedule == "cosine":
        return _cosine_betas(n_timestep, cosine_s)
    raise UserError(
        f"beta_schedule {schedule!r} given; expected linear, sqrt_linear, sqrt or cosine"
    )


def _cosine_betas(n_timestep: int, offset: float) -> np.ndarray:
    t = np.arange(n_timestep + 1) / n_timestep + offset
    alphas_cumprod = np.cos(t / (1 + offset) * np.pi / 2) ** 2
    return np.clip(1 - alphas_cumprod[1:] / alphas_cumprod[:-1], 0, 0.999)


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

"""Limits on estimates of the clean sample, for guidance scales that overshoot.

Shapes: B batch, C channels, h w sides.
"""

from __future__ import annotations

import torch
from torch import Tensor


def limit_rms(x0: Tensor, limit: float) -> Tensor:
    """Scale each row of ``x0`` (B,C,h,w) down to a root mean square of at most ``limit``.

    What Stable Diffusion 2 calls dynamic thresholding in its PLMS sampler. It suits latents, which
    have no fixed range.
    """
    rms = x0.square().flatten(1).mean(1).sqrt()
    return x0 * _per_row(limit / rms.clamp(min=limit), x0)


def limit_rms_of_pixels(x0: Tensor, limit: float) -> Tensor:
    """Scale each place of ``x0`` (B,C,h,w) down to a root mean square over C below ``limit``."""
    rms = x0.square().mean(1, keepdim=True).sqrt()
    return x0 * (limit / rms.clamp(min=limit))


def limit_quantile(x0: Tensor, largest: float = 1.0, share: float = 0.995) -> Tensor:
    """Cut each row of ``x0`` (B,C,h,w) at a quantile of its magnitudes and scale that to 1.

    Dynamic thresholding of pixels: arXiv:2205.11487, section 2.3.

    Args:
        x0: Estimates, pixels in about [-1, 1].
        largest: Rows whose quantile is smaller than this are cut and scaled by it instead.
        share: Which quantile, 0 to 1.
    """
    bound = torch.quantile(x0.abs().flatten(1), share, dim=1).clamp(min=largest)
    bound = _per_row(bound, x0)
    return x0.clamp(-bound, bound) / bound


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    """Return ``values`` (B,) as (B, 1, ..., 1), to multiply ``like``."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))

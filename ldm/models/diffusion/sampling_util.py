"""The limits of ``ldm.process.thresholding`` under the names of Stable Diffusion 2.

Shapes: B batch, C channels, h w latent sides.
"""

from __future__ import annotations

from torch import Tensor

from ldm.errors import UserError
from ldm.process.thresholding import limit_rms, limit_rms_of_pixels


def append_dims(x: Tensor, target_dims: int) -> Tensor:
    """Return ``x`` with dimensions of length 1 at its end, up to ``target_dims`` of them.

    Raises:
        UserError: It has more.
    """
    if x.ndim > target_dims:
        raise UserError(f"a tensor of {x.ndim} dimensions given; expected at most {target_dims}")
    return x.reshape(*x.shape, *(1,) * (target_dims - x.ndim))


def norm_thresholding(x0: Tensor, value: float) -> Tensor:
    """Scale each row of ``x0`` (B,C,h,w) down to a root mean square of at most ``value``."""
    return limit_rms(x0, value)


def spatial_norm_thresholding(x0: Tensor, value: float) -> Tensor:
    """Scale each place of ``x0`` (B,C,h,w) down to such a root mean square over its channels."""
    return limit_rms_of_pixels(x0, value)

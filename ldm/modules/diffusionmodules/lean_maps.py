"""Half-precision maps under autocast on a card, without float32 maps of their size beside them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PARTS = 16


def activated_by_groups(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Return SiLU(norm(x)) in x's half precision, to the bits of autocast's way to a convolution.

    There the norm and SiLU are in float32, and the convolution rounds what it is given. Groups are
    normalised each by itself, so a few at a time give the same numbers.

    Args:
        norm: With factors and offsets.
        x: (B, C, H, W).
    """
    out = torch.empty_like(x)
    width = norm.num_channels // norm.num_groups
    step = max(1, norm.num_groups // PARTS)
    for first in range(0, norm.num_groups, step):
        groups = min(step, norm.num_groups - first)
        part = slice(first * width, (first + groups) * width)
        own = norm.weight[part], norm.bias[part]
        normed = F.group_norm(x[:, part], groups, *own, norm.eps)  # float32 by autocast
        out[:, part] = F.silu(normed, inplace=True)
        del normed  # before the next part is made
    return out


def doubled(x: Tensor) -> Tensor:
    """Double the sides of x (B, C, ...) by nearest neighbours, for a convolution.

    On a CUDA device autocast would make a float32 map of the same numbers, which the convolution
    then turns to half precision.
    """
    kind = x.device.type
    if x.is_cuda and torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
    return F.interpolate(x, scale_factor=2.0, mode="nearest")

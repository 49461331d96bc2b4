"""Which of torch's attention kernels computes a head of a given width on a CUDA device.

Shapes: B batch, N queries, M keys, d head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ldm.modules.attention_processors import sdpa

NAMED = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
HOPPER, AMPERE = 9, 8
WIDEST_CUDNN, WIDEST_FLASH = 128, 256
"""Widths up to which the kernels work; both want a multiple of 8, in half precision."""


def backends(d: int, capability: int, dtype: torch.dtype) -> tuple[SDPBackend, ...]:
    """Return kernels for heads of width ``d``, the best first.

    cuDNN's is ahead of FlashAttention-2 by 1.7 to 2.3 on Hopper, and behind it (0.82) on Ampere
    (measured for transformers' PR 48163 at training shapes); it ends at 128, which leaves Stable
    Diffusion's heads of 160 to FlashAttention. torch falls back along the list.

    Args:
        d: Stable Diffusion v1 has 40, 80 and 160, its autoencoder 512.
        capability: The device's major compute capability.
        dtype: Of the queries.
    """
    found = [NAMED["efficient"], NAMED["math"]]
    if dtype in (torch.float16, torch.bfloat16) and d % 8 == 0 and capability >= AMPERE:
        if d <= WIDEST_FLASH:
            found.insert(0, NAMED["flash"])
        if d <= WIDEST_CUDNN:
            found.insert(0 if capability >= HOPPER else 1, NAMED["cudnn"])
    return tuple(found)


@dataclass(frozen=True)
class ByHeadWidth:
    """Attend through the kernel that suits a head's width.

    Attributes:
        capability: The device's major compute capability.
        first: The name of a kernel to try before the others; None for the table's choice.
    """

    capability: int
    first: str | None = None

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, scale: float
    ) -> Tensor:
        if not q.is_cuda:
            return sdpa(q, k, v, mask=mask, scale=scale)
        order = backends(q.shape[-1], self.capability, q.dtype)
        if self.first is not None:
            order = (NAMED[self.first], *(each for each in order if each != NAMED[self.first]))
        with sdpa_kernel(list(order), set_priority=True):
            return sdpa(q, k, v, mask=mask, scale=scale)

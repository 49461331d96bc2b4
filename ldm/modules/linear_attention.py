"""Attention of linear cost, without norm or residual: arXiv:1812.01243, section 3.

Shapes: B batch, C channels, h w latent sides, N = h*w positions, d head width.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn


class LinearAttention(nn.Module):
    """Let the positions of (B, C, h, w) share one table of d x d numbers a head.

    Of the paper's two norms it has the keys', over the positions; queries are not scaled.

    Args:
        dim: C.
        heads: Heads.
        dim_head: d.
    """

    def __init__(self, dim: int, heads: int = 4, dim_head: int = 32):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Conv2d(dim, 3 * heads * dim_head, 1, bias=False)
        self.to_out = nn.Conv2d(heads * dim_head, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(
            self.to_qkv(x), "b (qkv heads d) h w -> qkv b heads d (h w)", qkv=3, heads=self.heads
        )  # each (B, heads, d, N)
        context = torch.einsum("bhdn,bhen->bhde", k.softmax(dim=-1), v)  # (B, heads, d, d)
        out = torch.einsum("bhde,bhdn->bhen", context, q)  # (B, heads, d, N)
        # (B, heads * d, h, w) -> (B, C, h, w)
        return self.to_out(rearrange(out, "b heads d (h w) -> b (heads d) h w", h=x.shape[2]))


class LinAttnBlock(LinearAttention):
    """The autoencoder's linear form: one head, as wide as the map."""

    def __init__(self, in_channels: int):
        super().__init__(dim=in_channels, heads=1, dim_head=in_channels)

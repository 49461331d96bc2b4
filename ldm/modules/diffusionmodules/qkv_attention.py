"""Parts of the UNet that the reference offers by name, and that ours does with others.

Shapes: B batch, C channels, h w latent sides, N positions, heads, d head width.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ldm.modules.attention_processors import AttentionLayer


class TransposedUpsample(nn.Module):
    """Double the sides by a learned kernel, without padding: (B, C, h, w) -> (B, C', 2h+k-2, ...).

    Args:
        channels: C.
        out_channels: C'; None for C.
        ks: Side k of the kernel.
    """

    def __init__(self, channels: int, out_channels: int | None = None, ks: int = 5):
        super().__init__()
        self.channels, self.out_channels = channels, out_channels or channels
        self.up = nn.ConvTranspose2d(channels, self.out_channels, kernel_size=ks, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


class QKVAttention(AttentionLayer):
    """Attention of queries, keys and values that stand one after the other in (B, 3 C, N).

    Args:
        n_heads: Heads; each takes its share of the queries, of the keys and of the values.
    """

    order = "(qkv heads d)"

    def __init__(self, n_heads: int):
        super().__init__()
        self.n_heads = n_heads

    def forward(self, qkv: Tensor) -> Tensor:
        """Return what the positions read (B, C, N)."""
        pattern = f"b {self.order} n -> qkv b heads n d"
        q, k, v = rearrange(qkv, pattern, qkv=3, heads=self.n_heads)  # each (B, heads, N, d)
        out = self.processor(q, k, v, mask=None, scale=q.shape[-1] ** -0.5)
        return rearrange(out, "b heads n d -> b (heads d) n")  # (B, C, N)

    @staticmethod
    def count_flops(model: nn.Module, _x: Any, y: Any) -> None:
        """Add the operations of a call; see ``count_flops_attn``."""
        count_flops_attn(model, _x, y)


class QKVAttentionLegacy(QKVAttention):
    """The same where each head has its queries, keys and values beside each other."""

    order = "(heads qkv d)"


def count_flops_attn(model: nn.Module, _x: Any, y: tuple[Tensor, ...]) -> None:
    """Add the operations of an attention to ``model.total_ops``: a counter for ``thop``.

    Args:
        model: Has ``total_ops``.
        _x: Unused; the counters' interface.
        y: Its result (B, C, ...) first: C multiplications for each pair of positions, twice.
    """
    batch, channels, *sides = y[0].shape
    positions = torch.Size(sides).numel()
    model.total_ops += torch.DoubleTensor([2 * batch * positions**2 * channels])

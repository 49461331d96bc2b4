"""Attention layers of the UNet.

Shapes: B batch, C channels, h w latent sides, N = h*w tokens, M context tokens, D width,
heads, d head width. Key names and layer order are the checkpoints'.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ldm.modules.attention_processors import (
    AttentionLayer,
    set_attention_processor,  # noqa: F401 - offered here too, beside the layers
)
from ldm.modules.diffusionmodules.util import checkpoint, zero_module
from ldm.util import default


class GEGLU(nn.Module):
    """Gated linear unit with an exact (erf) GELU gate: arXiv:2002.05202, Eq. 6 with bias."""

    def __init__(self, dim_in: int, dim_out: int):
        super().__init__()
        self.proj = nn.Linear(dim_in, dim_out * 2)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)  # each (B, N, dim_out)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Two-layer perceptron on tokens (B, N, D), with ``mult`` times the width inside."""

    def __init__(
        self,
        dim: int,
        dim_out: int | None = None,
        mult: int = 4,
        glu: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        inner = int(dim * mult)
        first = GEGLU(dim, inner) if glu else nn.Sequential(nn.Linear(dim, inner), nn.GELU())
        self.net = nn.Sequential(
            first, nn.Dropout(dropout), nn.Linear(inner, default(dim_out, dim))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # (B, N, dim_out)


class CrossAttention(AttentionLayer):
    """Multi-head attention of tokens to a context, or to themselves without one.

    ``processor`` computes softmax(q k^T / sqrt(d)) v: arXiv:1706.03762, Eq. 1.
    """

    def __init__(
        self,
        query_dim: int,
        context_dim: int | None = None,
        heads: int = 8,
        dim_head: int = 64,
        dropout: float = 0.0,
    ):
        super().__init__()
        inner = heads * dim_head
        context_dim = default(context_dim, query_dim)
        self.heads = heads
        self.scale = dim_head**-0.5
        self.to_q = nn.Linear(query_dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, query_dim), nn.Dropout(dropout))

    def forward(
        self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            x: Queries (B, N, query_dim).
            context: Keys and values (B, M, context_dim); ``x`` itself when None.
            mask: Boolean (B, M), True where a context token may be seen.
        """
        context = default(context, x)
        q, k, v = (
            rearrange(project(tokens), "b n (heads d) -> b heads n d", heads=self.heads)
            for project, tokens in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )  # q (B, heads, N, d); k and v (B, heads, M, d)
        if mask is not None:
            mask = rearrange(mask, "b m -> b 1 1 m")
        out = self.processor(q, k, v, mask=mask, scale=self.scale)  # (B, heads, N, d)
        out = rearrange(out, "b heads n d -> b n (heads d)")  # (B, N, heads * d)
        return self.to_out(out)  # (B, N, query_dim)


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each normalised before and added.

    ``disable_self_attn`` lets the first attention look at the context too, not at its own tokens.
    """

    def __init__(
        self,
        dim: int,
        n_heads: int,
        d_head: int,
        dropout: float = 0.0,
        context_dim: int | None = None,
        gated_ff: bool = True,
        checkpoint: bool = True,
        disable_self_attn: bool = False,
    ):
        super().__init__()
        self.disable_self_attn = disable_self_attn
        self.attn1 = CrossAttention(
            dim,
            context_dim=context_dim if disable_self_attn else None,
            heads=n_heads,
            dim_head=d_head,
            dropout=dropout,
        )
        self.ff = FeedForward(dim, dropout=dropout, glu=gated_ff)
        self.attn2 = CrossAttention(
            dim, context_dim=context_dim, heads=n_heads, dim_head=d_head, dropout=dropout
        )
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.checkpoint = checkpoint

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return checkpoint(self._forward, (x, context), flag=self.checkpoint)

    def _forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        # x is (B, N, dim) throughout, context (B, M, context_dim).
        x = self.attn1(self.norm1(x), context=context if self.disable_self_attn else None) + x
        x = self.attn2(self.norm2(x), context=context) + x
        return self.ff(self.norm3(x)) + x


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map (B, C, h, w), added to it.

    ``use_linear`` projects tokens by Linear layers (SD 2) in place of 1x1 convolutions (SD 1).
    """

    def __init__(
        self,
        in_channels: int,
        n_heads: int,
        d_head: int,
        depth: int = 1,
        dropout: float = 0.0,
        context_dim: int | None = None,
        disable_self_attn: bool = False,
        use_linear: bool = False,
        use_checkpoint: bool = True,
    ):
        super().__init__()
        inner = n_heads * d_head
        self.in_channels = in_channels
        self.use_linear = use_linear
        # The reference normalises here with eps 1e-6, unlike the ResBlocks' 1e-5.
        self.norm = nn.GroupNorm(32, in_channels, eps=1e-6)
        self.proj_in = _token_projection(in_channels, inner, use_linear)
        self.transformer_blocks = nn.ModuleList(
            BasicTransformerBlock(
                inner,
                n_heads,
                d_head,
                dropout=dropout,
                context_dim=context_dim,
                checkpoint=use_checkpoint,
                disable_self_attn=disable_self_attn,
            )
            for _ in range(depth)
        )
        self.proj_out = zero_module(_token_projection(inner, in_channels, use_linear))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        height = x.shape[2]
        tokens = self.norm(x)  # (B, C, h, w)
        if not self.use_linear:
            tokens = self.proj_in(tokens)  # (B, D, h, w)
        tokens = rearrange(tokens, "b c h w -> b (h w) c")  # (B, N, D), or C before a Linear
        if self.use_linear:
            tokens = self.proj_in(tokens)  # (B, N, D)
        for block in self.transformer_blocks:
            tokens = block(tokens, context=context)  # (B, N, D)
        if self.use_linear:
            tokens = self.proj_out(tokens)  # (B, N, C)
        # Contiguous: a channels-last view would slow every layer that follows, by a tenth on a CPU.
        tokens = rearrange(tokens, "b (h w) c -> b c h w", h=height).contiguous()
        if not self.use_linear:
            tokens = self.proj_out(tokens)  # (B, D, h, w) -> (B, C, h, w)
        return tokens + x  # (B, C, h, w)


def _token_projection(channels_in: int, channels_out: int, linear: bool) -> nn.Module:
    if linear:
        return nn.Linear(channels_in, channels_out)
    return nn.Conv2d(channels_in, channels_out, kernel_size=1)

"""Attention layers of the UNet.

Shapes: B batch, C channels, h w latent sides, N = h*w tokens, M context tokens, D width,
heads, d head width. Key names and layer order are the checkpoints'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.lazy import lazy_exports
from ldm.modules.attention_processors import AttentionLayer, set_attention_processor
from ldm.modules.diffusionmodules.util import checkpoint, zero_module
from ldm.util import default

# What CompVis's file defines or imports besides, and no published model needs.
ELSEWHERE = {
    "LinearAttention": "ldm.modules.linear_attention",
    "SpatialSelfAttention": "ldm.modules.diffusionmodules.model:AttnBlock",
    "Normalize": "ldm.modules.diffusionmodules.model",
    "einsum": "torch",
    "exists": "ldm.util",
    "isfunction": "inspect",
    "math": "math:",
    "repeat": "einops",
}
__all__ = [
    "BasicTransformerBlock",
    "CrossAttention",
    "FeedForward",
    "GEGLU",
    "MemoryEfficientCrossAttention",
    "SpatialTransformer",
    "checkpoint",
    "default",
    "init_",
    "max_neg_value",
    "rearrange",
    "set_attention_processor",
    "uniq",
    "zero_module",
    *ELSEWHERE,
]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)


def uniq(arr: Iterable[Any]) -> Iterable[Any]:
    """Return the different entries of ``arr``, in the order in which they first appear."""
    return dict.fromkeys(arr, True).keys()


def max_neg_value(t: Tensor) -> float:
    """Return the lowest number of the tensor's dtype."""
    return -torch.finfo(t.dtype).max


def init_(tensor: Tensor) -> Tensor:
    """Fill in place, uniformly within 1 / sqrt(last dimension) of zero."""
    bound = tensor.shape[-1] ** -0.5
    return nn.init.uniform_(tensor, -bound, bound)


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
        for attend in self.beside:
            found = attend(q)  # (B, heads, N, d)
            out = out if found is None else out + found
        out = rearrange(out, "b heads n d -> b n (heads d)")  # (B, N, heads * d)
        return self.to_out(out)  # (B, N, query_dim)


MemoryEfficientCrossAttention = CrossAttention
"""SD 2's name for the one that needs xformers; torch's fused kernel takes no more memory."""


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

    # Of the class, as ``AttentionLayer.beside`` is; adapters fill it.
    between: Sequence[Callable[[Tensor], Tensor]] = ()
    """What tokens (B, N, dim) go through between the two attentions."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        # The reference's own checkpoint detaches every input, and None cannot be.
        inputs = (x,) if context is None else (x, context)
        return checkpoint(self._forward, inputs, self.parameters(), self.checkpoint)

    def _forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        # x is (B, N, dim) throughout, context (B, M, context_dim).
        x = self.attn1(self.norm1(x), context=context if self.disable_self_attn else None) + x
        for change in self.between:
            x = change(x)
        x = self.attn2(self.norm2(x), context=context) + x
        return self.ff(self.norm3(x)) + x


class SpatialTransformer(nn.Module):
    """Transformer blocks over the pixels of a feature map (B, C, h, w), added to it.

    The first six parameters are CompVis's, the others came with SD 2.

    Args:
        in_channels: C.
        n_heads: Heads.
        d_head: Head width.
        depth: Blocks.
        dropout: Dropout probability in the blocks.
        context_dim: Width of the context; None without one. A list has the width for each block,
            or one for all; ``forward`` then takes a list of contexts too.
        disable_self_attn: See ``BasicTransformerBlock``.
        use_linear: Project tokens by Linear layers (SD 2) in place of 1x1 convolutions (SD 1).
        use_checkpoint: Recompute the blocks in the backward pass.

    Raises:
        UserError: ``context_dim`` has another number of entries than ``depth``.
    """

    def __init__(
        self,
        in_channels: int,
        n_heads: int,
        d_head: int,
        depth: int = 1,
        dropout: float = 0.0,
        context_dim: int | Sequence[int] | None = None,
        disable_self_attn: bool = False,
        use_linear: bool = False,
        use_checkpoint: bool = True,
    ):
        super().__init__()
        inner = n_heads * d_head
        widths = _for_each_block(context_dim, depth, "context_dim")
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
                context_dim=width,
                checkpoint=use_checkpoint,
                disable_self_attn=disable_self_attn,
            )
            for width in widths
        )
        self.proj_out = zero_module(_token_projection(inner, in_channels, use_linear))

    def forward(self, x: Tensor, context: Tensor | Sequence[Tensor] | None = None) -> Tensor:
        contexts = _for_each_block(context, len(self.transformer_blocks), "context")
        height = x.shape[2]
        tokens = self.norm(x)  # (B, C, h, w)
        if not self.use_linear:
            tokens = self.proj_in(tokens)  # (B, D, h, w)
        tokens = rearrange(tokens, "b c h w -> b (h w) c")  # (B, N, D), or C before a Linear
        if self.use_linear:
            tokens = self.proj_in(tokens)  # (B, N, D)
        for block, each in zip(self.transformer_blocks, contexts, strict=True):
            tokens = block(tokens, context=each)  # (B, N, D)
        if self.use_linear:
            tokens = self.proj_out(tokens)  # (B, N, C)
        tokens = rearrange(tokens, "b (h w) c -> b c h w", h=height)
        if x.is_contiguous():
            # A channels-last view would slow every layer that follows, by a tenth on a CPU.
            tokens = tokens.contiguous()
        if not self.use_linear:
            tokens = self.proj_out(tokens)  # (B, D, h, w) -> (B, C, h, w)
        return tokens + x  # (B, C, h, w)


def _for_each_block(given: Any, depth: int, name: str) -> Sequence[Any]:
    """Return one entry for each block: SD 2 gives lists, the first version one for all."""
    # omegaconf's lists are no ``list``.
    if isinstance(given, Tensor) or not isinstance(given, Sequence):
        return [given] * depth
    if len(given) not in (1, depth):
        raise UserError(
            f"{name} has {len(given)} entries for {depth} transformer blocks; expected one for "
            "each, or one for all; change it or transformer_depth"
        )
    return list(given) * (depth if len(given) == 1 else 1)


def _token_projection(channels_in: int, channels_out: int, linear: bool) -> nn.Module:
    if linear:
        return nn.Linear(channels_in, channels_out)
    return nn.Conv2d(channels_in, channels_out, kernel_size=1)

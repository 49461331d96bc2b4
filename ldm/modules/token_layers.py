"""Positions, norms and residuals of x-transformers, as the reference has them.

Shapes: B batch, L tokens, D width. Key names are the checkpoints'.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn


class AbsolutePositionalEmbedding(nn.Module):
    """A learned vector for each of ``max_seq_len`` places."""

    def __init__(self, dim: int, max_seq_len: int):
        super().__init__()
        self.emb = nn.Embedding(max_seq_len, dim)
        self.init_()

    def init_(self) -> None:
        """Draw the vectors from N(0, 0.02)."""
        nn.init.normal_(self.emb.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the first L places (1, L, D) for tokens x (B, L)."""
        return self.emb.weight[None, : x.shape[1]]


class FixedPositionalEmbedding(nn.Module):
    """Waves [sin, cos] of the place: arXiv:1706.03762, section 3.5, sine half first."""

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("inv_freq", 10000 ** -(torch.arange(0, dim, 2).float() / dim))

    def forward(self, x: Tensor, seq_dim: int = 1, offset: int = 0) -> Tensor:
        """Return (1, L, D) for the places ``offset`` and after; ``seq_dim`` is where x has L."""
        places = torch.arange(x.shape[seq_dim], device=x.device).to(self.inv_freq) + offset
        angles = places[:, None] * self.inv_freq
        return torch.cat((angles.sin(), angles.cos()), dim=-1)[None]


class Scale(nn.Module):
    """Multiply what ``fn`` returns, or the first of what it returns, by a number."""

    def __init__(self, value: float, fn: nn.Module):
        super().__init__()
        self.value, self.fn = value, fn

    def forward(self, x: Tensor, **kwargs: Any) -> Any:
        return _scaled(self.fn(x, **kwargs), self.value)


class Rezero(nn.Module):
    """The same with a learned number that begins at zero: arXiv:2003.04887."""

    def __init__(self, fn: nn.Module):
        super().__init__()
        self.fn = fn
        self.g = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, **kwargs: Any) -> Any:
        return _scaled(self.fn(x, **kwargs), self.g)


def _scaled(result: Any, factor: float | Tensor) -> Any:
    # A feed-forward returns a tensor alone; unpacked like attention's pair, it would lose its rows.
    if isinstance(result, Tensor):
        return result * factor
    first, *rest = result
    return first * factor, *rest


class ScaleNorm(nn.Module):
    """Divide tokens by their length over sqrt(D), then scale all alike: arXiv:1910.05895."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.scale, self.eps = dim**-0.5, eps
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.norm(dim=-1, keepdim=True) * self.scale
        return x / norm.clamp(min=self.eps) * self.g


class RMSNorm(ScaleNorm):
    """The same with a scale for each channel: arXiv:1910.07467."""

    def __init__(self, dim: int, eps: float = 1e-8):
        super().__init__(dim, eps)
        self.g = nn.Parameter(torch.ones(dim))


class Residual(nn.Module):
    """Add a layer's result to its input."""

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return x + residual


class GRUGating(nn.Module):
    """Join a layer's result to its input by a GRU: arXiv:1910.06764, section 3.2."""

    def __init__(self, dim: int):
        super().__init__()
        self.gru = nn.GRUCell(dim, dim)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        flat = (rearrange(tokens, "b n d -> (b n) d") for tokens in (x, residual))
        return self.gru(*flat).reshape_as(x)

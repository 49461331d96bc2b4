"""GLIGEN's layers: tokens of boxes, and the gated self-attention that looks at them.

Shapes: P samples, O boxes (30, missing ones included), F width of a text's feature, D width of the
tokens, N positions of a map, C its width. The names of the weights are the published files'.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ldm.modules.attention import CrossAttention, FeedForward

FREQUENCIES = 8


class PositionNet(nn.Module):
    """From a box and the feature of its text to a token: arXiv:2301.07093, Eq. 5."""

    def __init__(self, width: int, context_dim: int, hidden: int = 512) -> None:
        super().__init__()
        place = FREQUENCIES * 2 * 4  # sine and cosine of two corners
        self.linears = nn.Sequential(
            nn.Linear(width + place, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, context_dim),
        )
        self.null_positive_feature = nn.Parameter(torch.zeros(width))
        self.null_position_feature = nn.Parameter(torch.zeros(place))

    def forward(self, boxes: Tensor, features: Tensor, there: Tensor) -> Tensor:
        """Make tokens (P, O, D).

        Args:
            boxes: Corners x0, y0, x1, y1 as fractions of the sides, (P, O, 4).
            features: Of the texts, (P, O, F).
            there: 1 for a box, 0 where there is none, (P, O).
        """
        there = there[..., None]
        features = features * there + (1 - there) * self.null_positive_feature
        places = waves(boxes) * there + (1 - there) * self.null_position_feature
        return self.linears(torch.cat([features, places], dim=-1))


def waves(boxes: Tensor) -> Tensor:
    """Embed numbers: (..., 4) -> (..., 64), frequency by frequency its sines, then its cosines."""
    k = torch.arange(FREQUENCIES, device=boxes.device, dtype=boxes.dtype)
    angles = boxes[..., None, :] * 100 ** (k / FREQUENCIES)[:, None]  # (..., 8, 4)
    return torch.stack([angles.sin(), angles.cos()], dim=-2).flatten(-3)


class Fuser(nn.Module):
    """Gated self-attention of a map's positions and the boxes' tokens: arXiv:2301.07093, Eq. 8.

    The second gate, over a feed-forward layer, is the released code's. Both gates begin shut.
    """

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.linear = nn.Linear(context_dim, dim)
        self.attn = CrossAttention(dim, heads=heads, dim_head=dim // heads)
        self.ff = FeedForward(dim, glu=True)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.alpha_attn = nn.Parameter(torch.tensor(0.0))
        self.alpha_dense = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, tokens: Tensor, scale: float) -> Tensor:
        """Change a map's positions (P, N, C) by tokens (P, O, D); ``scale`` 0 changes nothing."""
        both = torch.cat([x, self.linear(tokens)], dim=1)  # (P, N + O, C)
        seen = self.attn(self.norm1(both))[:, : x.shape[1]]  # (P, N, C)
        x = x + scale * self.alpha_attn.tanh() * seen
        return x + scale * self.alpha_dense.tanh() * self.ff(self.norm2(x))

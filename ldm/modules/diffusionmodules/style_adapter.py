"""T2I-Adapter's style adapter (arXiv:2302.08453): a picture's style as text tokens.

Shapes: n pictures, P tokens of CLIP's vision network, W their width, D the width of text tokens.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

HEADS = 8
WIDER = 4
"""Of a block's inner layer."""


class QuickGELU(nn.Module):
    """OpenAI CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x sigmoid(1.702 x)."""
        return x * torch.sigmoid(1.702 * x)


class StyleBlock(nn.Module):
    """Self-attention and a feed-forward layer, each normalised before and added: CLIP's block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = WIDER * width
        self.attn = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        layers = {
            "c_fc": nn.Linear(width, inner),
            "gelu": QuickGELU(),
            "c_proj": nn.Linear(inner, width),
        }
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (n, P, W)."""
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class StyleAdapter(nn.Module):
    """The adapter under the original's names, its spelling included.

    Args:
        width: W.
        context_dim: D.
        blocks: How many blocks.
        tokens: How many tokens it makes.
    """

    def __init__(self, width: int, context_dim: int, blocks: int = 3, tokens: int = 8) -> None:
        super().__init__()
        scale = width**-0.5
        self.transformer_layes = nn.Sequential(*[StyleBlock(width) for _ in range(blocks)])
        self.style_embedding = nn.Parameter(scale * torch.randn(1, tokens, width))
        self.ln_post, self.ln_pre = nn.LayerNorm(width), nn.LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, context_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return text tokens (n, tokens, D) for CLIP's last hidden states (n, P, W)."""
        asked = self.style_embedding.expand(len(x), -1, -1)
        x = self.transformer_layes(self.ln_pre(torch.cat([x, asked], dim=1)))
        return self.ln_post(x[:, -asked.shape[1] :]) @ self.proj

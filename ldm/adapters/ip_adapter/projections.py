"""From a picture's features to tokens of the context: the three kinds that IP-Adapter has.

Shapes: P pictures, F width of the features, L of them a picture, T tokens, D width of the context.
The names of the weights are the published files'.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn

from ldm.modules.attention_processors import sdpa

HEAD = 64
"""Width of the resampler's heads, which files do not tell."""


class TokenProjection(nn.Module):
    """IP-Adapter: one vector (P, F) of a picture becomes T tokens (P, T, D)."""

    hidden = False  # takes the projected embedding, not the last hidden states but one

    def __init__(self, width: int, tokens: int, context_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, tokens * context_dim)
        self.norm = nn.LayerNorm(context_dim)

    @classmethod
    def like(cls, state: Mapping[str, Tensor]) -> TokenProjection:
        """Build one of the sizes that weights have."""
        context_dim = len(state["norm.weight"])
        total, width = state["proj.weight"].shape
        return cls(width, total // context_dim, context_dim)

    @property
    def width(self) -> int:
        """F."""
        return self.proj.in_features

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.proj(features).unflatten(-1, (-1, len(self.norm.weight)))  # (P, T, D)
        return self.norm(tokens)


class TokenPerceptron(nn.Module):
    """IP-Adapter full-face: each hidden state (P, L, F) becomes a token (P, L, D)."""

    hidden = True

    def __init__(self, width: int, context_dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, context_dim),
            nn.LayerNorm(context_dim),
        )

    @classmethod
    def like(cls, state: Mapping[str, Tensor]) -> TokenPerceptron:
        """Build one of the sizes that weights have."""
        return cls(state["proj.0.weight"].shape[1], len(state["proj.3.weight"]))

    @property
    def width(self) -> int:
        """F."""
        return self.proj[0].in_features

    def forward(self, features: Tensor) -> Tensor:
        return self.proj(features)  # (P, L, D)


class _LatentAttention(nn.Module):
    """Learned queries look at features and at themselves: arXiv:2204.14198, section 3.1."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, inner * 2, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, features: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)  # (P, T, dim)
        seen = torch.cat([self.norm1(features), latents], dim=1)  # (P, L + T, dim)
        k, v = self.to_kv(seen).chunk(2, dim=-1)
        q, k, v = (
            rearrange(a, "p n (heads d) -> p heads n d", d=HEAD) for a in (self.to_q(latents), k, v)
        )
        out = sdpa(q, k, v, mask=None, scale=HEAD**-0.5)  # (P, heads, T, d)
        return self.to_out(rearrange(out, "p heads n d -> p n (heads d)"))  # (P, T, dim)


class Resampler(nn.Module):
    """IP-Adapter plus: T learned queries read the hidden states (P, L, F): tokens (P, T, D)."""

    hidden = True

    def __init__(
        self,
        width: int,
        dim: int,
        tokens: int,
        context_dim: int,
        *,
        depth: int,
        inner: int,
        ff: int,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, tokens, dim) / dim**0.5)
        self.proj_in, self.proj_out = nn.Linear(width, dim), nn.Linear(dim, context_dim)
        self.norm_out = nn.LayerNorm(context_dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([_LatentAttention(dim, inner), _feed_forward(dim, ff)])
            for _ in range(depth)
        )

    @classmethod
    def like(cls, state: Mapping[str, Tensor]) -> Resampler:
        """Build one of the sizes that weights have."""
        _, tokens, dim = state["latents"].shape
        return cls(
            state["proj_in.weight"].shape[1],
            dim,
            tokens,
            len(state["proj_out.weight"]),
            depth=1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers.")),
            inner=len(state["layers.0.0.to_q.weight"]),
            ff=len(state["layers.0.1.1.weight"]),
        )

    @property
    def width(self) -> int:
        """F."""
        return self.proj_in.in_features

    def forward(self, features: Tensor) -> Tensor:
        features = self.proj_in(features)  # (P, L, dim)
        latents = self.latents.expand(len(features), -1, -1)  # (P, T, dim)
        for attend, feed_forward in self.layers:
            latents = attend(features, latents) + latents
            latents = feed_forward(latents) + latents
        return self.norm_out(self.proj_out(latents))  # (P, T, D)


def _feed_forward(dim: int, inner: int) -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, inner, bias=False),
        nn.GELU(),
        nn.Linear(inner, dim, bias=False),
    )


KINDS: dict[str, type[TokenProjection | Resampler | TokenPerceptron]] = {
    "base": TokenProjection,
    "plus": Resampler,
    "full-face": TokenPerceptron,
}


def kind_of(names: set[str]) -> str | None:
    """Tell an image projection's kind by the names of its weights: a key of ``KINDS``, ``FaceID``.

    None is a kind that is unknown.
    """
    if "proj.weight" in names:
        return "base"
    if "proj.3.weight" in names:
        return "full-face"
    if any("perceiver_resampler" in name for name in names) or {"proj.0.weight", "norm.weight"} <= (
        names
    ):
        return "FaceID"
    return "plus" if "latents" in names and "layers.0.0.to_q.weight" in names else None

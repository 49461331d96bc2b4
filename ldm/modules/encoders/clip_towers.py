"""CLIP's two towers under the names of OpenAI's and open_clip's checkpoints.

Shapes: B batch, L tokens (77), P patches, D width of a tower, E width that both towers share,
heads, d head width.

Stable Diffusion 2 uses these names for its text encoder (``cond_stage_model.model.*``); version 1
uses transformers' names, see ``clip_text``. The attention itself is causal: the ``attn_mask`` that
some files hold is accepted but not needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.modules.encoders.clip_text import ACTIVATIONS, causal_mask


@dataclass(frozen=True)
class TowerSizes:
    """Sizes of one tower; ``mlp`` is the feed-forward's width."""

    width: int
    heads: int
    layers: int
    mlp: int

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UserError(
                f"a tower of width {self.width} given {self.heads} heads; expected a number that "
                "divides the width"
            )


@dataclass(frozen=True)
class CLIPSizes:
    """Sizes of a CLIP model, E as ``embed_dim``, by open_clip's names where it has them."""

    embed_dim: int
    text: TowerSizes
    image: TowerSizes
    patch_size: int
    image_size: int = 224
    context_length: int = 77
    vocab_size: int = 49408
    activation: str = "gelu"


_B, _L = TowerSizes(512, 8, 12, 2048), TowerSizes(768, 12, 12, 3072)
_H, _BIG_G = TowerSizes(1024, 16, 24, 4096), TowerSizes(1280, 20, 32, 5120)
_ARCHITECTURES = {
    "ViT-B-32": CLIPSizes(512, _B, TowerSizes(768, 12, 12, 3072), 32),
    "ViT-B-16": CLIPSizes(512, _B, TowerSizes(768, 12, 12, 3072), 16),
    "ViT-L-14": CLIPSizes(768, _L, TowerSizes(1024, 16, 24, 4096), 14),
    "ViT-H-14": CLIPSizes(1024, _H, TowerSizes(1280, 16, 32, 5120), 14),
    "ViT-g-14": CLIPSizes(1024, _H, TowerSizes(1408, 16, 40, 6144), 14),
    "ViT-bigG-14": CLIPSizes(1280, _BIG_G, TowerSizes(1664, 16, 48, 8192), 14),
}
QUICK = "-quickgelu"
"""Suffix of the names of architectures that use OpenAI's approximation of GELU."""


def clip_sizes(arch: str) -> CLIPSizes:
    """Return the sizes of an architecture by open_clip's name.

    Raises:
        UserError: The name is unknown.
    """
    base = arch.removesuffix(QUICK)
    if base not in _ARCHITECTURES:
        raise UserError(
            f"CLIP architecture {arch!r} given; expected one of {', '.join(_ARCHITECTURES)}, with "
            f"{QUICK!r} at its end for OpenAI's activation"
        )
    sizes = _ARCHITECTURES[base]
    return sizes if base == arch else replace(sizes, activation="quick_gelu")


class MultiheadAttention(nn.Module):
    """Self-attention with q, k and v in one matrix, named as torch's ``nn.MultiheadAttention``.

    Attributes:
        beside: Functions of the input (B, L, D) and of the joined projections (B, L, 3 D) that
            return the latter changed; adapters of the projections stand here, since no layer of
            its own computes them.
    """

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.beside: list[Callable[[Tensor, Tensor], Tensor]] = []
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.normal_(self.in_proj_weight, std=width**-0.5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        for change in self.beside:
            qkv = change(x, qkv)
        q, k, v = rearrange(qkv, "B L (qkv heads d) -> qkv B heads L d", qkv=3, heads=self.heads)
        causal = self.causal and mask is None
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.out_proj(rearrange(out, "B heads L d -> B L (heads d)"))


class MLP(nn.Module):
    """Two linear layers with the activation between them."""

    def __init__(self, width: int, inner: int, activation: str):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.c_fc = nn.Linear(width, inner)
        self.c_proj = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x)))


class ResidualAttentionBlock(nn.Module):
    """Pre-norm residual block of attention and feed-forward."""

    def __init__(self, sizes: TowerSizes, activation: str, causal: bool):
        super().__init__()
        self.ln_1 = nn.LayerNorm(sizes.width)
        self.attn = MultiheadAttention(sizes.width, sizes.heads, causal)
        self.ln_2 = nn.LayerNorm(sizes.width)
        self.mlp = MLP(sizes.width, sizes.mlp, activation)

    def forward(self, x: Tensor, *mask: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), *mask)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """The stack of blocks."""

    def __init__(self, sizes: TowerSizes, activation: str, causal: bool):
        super().__init__()
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(sizes, activation, causal) for _ in range(sizes.layers)
        )

    def forward(self, x: Tensor, skip_last: int = 0, *mask: Tensor) -> Tensor:
        """Run the blocks on (B, L, D), without the last ``skip_last``."""
        for block in self.resblocks[: len(self.resblocks) - skip_last]:
            x = block(x, *mask)
        return x


class CLIPTextTower(nn.Module):
    """Encode tokens as states, and as one embedding that pictures can be compared with.

    Args:
        sizes: The model's sizes; those of the text tower are read.
    """

    def __init__(self, sizes: CLIPSizes):
        super().__init__()
        width = sizes.text.width
        self.token_embedding = nn.Embedding(sizes.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(sizes.context_length, width))
        self.transformer = Transformer(sizes.text, sizes.activation, causal=True)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, sizes.embed_dim))
        self.logit_scale = nn.Parameter(torch.full((), math.log(1 / 0.07)))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=width**-0.5)
        self.register_load_state_dict_pre_hook(_drop_mask)

    def forward(self, tokens: Tensor, skip_last: int = 0, mask: Tensor | None = None) -> Tensor:
        """Return the states after the final norm.

        Args:
            tokens: (B, L), L at most the context length.
            skip_last: Blocks to leave out at the end; 1 gives the penultimate states.
            mask: (B, L) bool: which tokens may be looked at; None is all.

        Returns:
            (B, L, D) in the weights' dtype.
        """
        length, limit = tokens.shape[-1], self.positional_embedding.shape[0]
        if length > limit:
            raise ValueError(f"{length} tokens given, the text model has {limit} positions")
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        masks = () if mask is None else (causal_mask(mask),)
        return self.ln_final(self.transformer(x, skip_last, *masks))

    def encode(self, tokens: Tensor) -> Tensor:
        """Return (B, E) for tokens (B, L): the state at the end token, projected."""
        states = self(tokens)
        # The end token has the highest number of the table's own; ids beyond it are an adapter's.
        own = tokens < self.token_embedding.num_embeddings
        ends = tokens.where(own, 0).argmax(dim=-1)
        rows = torch.arange(len(tokens), device=tokens.device)
        return states[rows, ends] @ self.text_projection


class CLIPImageTower(nn.Module):
    """Encode pictures as embeddings that texts can be compared with.

    Args:
        sizes: The model's sizes; those of the image tower are read.
    """

    def __init__(self, sizes: CLIPSizes):
        super().__init__()
        width, patch = sizes.image.width, sizes.patch_size
        positions = (sizes.image_size // patch) ** 2 + 1
        self.image_size = sizes.image_size
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(positions, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(sizes.image, sizes.activation, causal=False)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, sizes.embed_dim))
        for parameter in (self.class_embedding, self.positional_embedding, self.proj):
            nn.init.normal_(parameter, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, E) for pictures (B, 3, image_size, image_size), normalised as for CLIP."""
        patches = self.conv1(x).flatten(2).mT  # (B, P, D)
        first = self.class_embedding.expand(len(x), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positional_embedding
        states = self.transformer(self.ln_pre(tokens))
        return self.ln_post(states[:, 0]) @ self.proj


def _drop_mask(
    module: nn.Module,  # noqa: ARG001 - torch's signature
    state: Mapping[str, Any],
    prefix: str,
    *rest: Any,  # noqa: ARG001
) -> None:
    state.pop(f"{prefix}attn_mask", None)

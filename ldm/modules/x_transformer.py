"""The transformer behind ``BERTEmbedder``: tokens with positions, and layers in any order.

Shapes: B batch, L tokens, D width, heads, d head width, V vocabulary. Key names are those of
x-transformers as the reference has it, and so is the order inside ``attn_layers.layers``: without
options, attention at even places and feed-forward at odd ones.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.lazy import lazy_exports
from ldm.modules.attention import FeedForward
from ldm.modules.keyword_groups import always, groupby_prefix_and_trim
from ldm.modules.token_attention import DEFAULT_DIM_HEAD, Attention, Intermediates
from ldm.modules.token_layers import (
    AbsolutePositionalEmbedding,
    FixedPositionalEmbedding,
    GRUGating,
    Residual,
    Rezero,
    RMSNorm,
    Scale,
    ScaleNorm,
)
from ldm.util import default

# What CompVis's file defines or imports besides.
ELSEWHERE = {
    "GEGLU": "ldm.modules.attention",
    "einsum": "torch",
    "equals": "ldm.modules.keyword_groups",
    "exists": "ldm.util",
    "group_by_key_prefix": "ldm.modules.keyword_groups",
    "group_dict_by_key": "ldm.modules.keyword_groups",
    "isfunction": "inspect",
    "max_neg_value": "ldm.modules.attention",
    "not_equals": "ldm.modules.keyword_groups",
    "pick_and_pop": "ldm.modules.keyword_groups",
    "rearrange": "einops",
    "reduce": "einops",
    "string_begins_with": "ldm.modules.keyword_groups",
}
__all__ = [
    "DEFAULT_DIM_HEAD",
    "AbsolutePositionalEmbedding",
    "Attention",
    "AttentionLayers",
    "Encoder",
    "FeedForward",
    "FixedPositionalEmbedding",
    "GRUGating",
    "Intermediates",
    "LayerIntermediates",
    "RMSNorm",
    "Residual",
    "Rezero",
    "Scale",
    "ScaleNorm",
    "TransformerWrapper",
    "always",
    "groupby_prefix_and_trim",
    *ELSEWHERE,
]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)

LayerIntermediates = namedtuple("LayerIntermediates", ["hiddens", "attn_intermediates"])
"""What the layers read before each self-attention, and the tables of all attentions."""


def _layer_types(
    block: Sequence[str], depth: int, par_ratio: int | None, sandwich_coef: int | None
) -> tuple[str, ...]:
    """Return the order of the layers: ``a`` self-attention, ``c`` cross-attention, ``f`` the rest.

    Args:
        block: One repetition of the plain order.
        depth: Repetitions.
        par_ratio: Put attention first, this many layers apart: arXiv:2009.04534, section 3.
        sandwich_coef: Repetitions that give attention to the beginning, feed-forward to the end:
            arXiv:1911.03864.

    Raises:
        UserError: The options do not fit.
    """
    if par_ratio is None and sandwich_coef is None:
        return (*block,) * depth
    if par_ratio is None:
        if not 0 < sandwich_coef <= depth:
            raise UserError(f"sandwich_coef {sandwich_coef} given; expected 1 to depth, {depth}")
        return ("a",) * sandwich_coef + (*block,) * (depth - sandwich_coef) + ("f",) * sandwich_coef
    count = depth * len(block)
    if not 1 < par_ratio <= count:
        raise UserError(f"par_ratio {par_ratio} given; expected 2 to {count}, all layers")
    attentions, head = count // par_ratio, [kind for kind in block if kind != "f"]
    # Attention ends after two thirds of the layers.
    until = count * 2 // 3
    width = (until + until // attentions) // attentions
    if len(head) > width:
        raise UserError(f"par_ratio {par_ratio} leaves {width} layers for {head}; raise it")
    first = (*head, *["f"] * (width - len(head))) * attentions
    return first + ("f",) * (count - len(first))


class AttentionLayers(nn.Module):
    """Attention and feed-forward in turn, each normalised before and added.

    Args:
        dim: D.
        depth: Repetitions of the order of layers.
        heads: Heads.
        causal: Let no token see those after it.
        cross_attend: Attend to a context after each self-attention.
        only_cross: Attend to the context alone.
        use_scalenorm: ``ScaleNorm`` in place of LayerNorm.
        use_rmsnorm: ``RMSNorm`` in place of both.
        use_rezero: ``Rezero`` around attention in place of any norm.
        rel_pos_num_buckets: Kept for CompVis, like the next; it has no relative positions either.
        rel_pos_max_distance: See above; at least as much.
        position_infused_attn: Add places to queries and keys of each layer: arXiv:2012.15832.
        custom_layers: The order of layers, one letter each; see ``_layer_types``.
        sandwich_coef: See there.
        par_ratio: See there.
        residual_attn: Add the scores of the self-attention before: arXiv:2012.11747.
        cross_residual_attn: The same for cross-attention.
        macaron: A second feed-forward, before attention, and half of both: arXiv:1906.02762.
        pre_norm: Normalise before each layer; otherwise after it, but for the last.
        gate_residual: ``GRUGating`` in place of adding.
        **kwargs: ``ff_...`` for ``FeedForward`` and ``attn_...`` for ``Attention``.

    Raises:
        UserError: Options that do not fit each other, or a letter that names no layer.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int = 8,
        causal: bool = False,
        cross_attend: bool = False,
        only_cross: bool = False,
        use_scalenorm: bool = False,
        use_rmsnorm: bool = False,
        use_rezero: bool = False,
        rel_pos_num_buckets: int = 32,
        rel_pos_max_distance: int = 128,
        position_infused_attn: bool = False,
        custom_layers: Sequence[str] | None = None,
        sandwich_coef: int | None = None,
        par_ratio: int | None = None,
        residual_attn: bool = False,
        cross_residual_attn: bool = False,
        macaron: bool = False,
        pre_norm: bool = True,
        gate_residual: bool = False,
        **kwargs: Any,
    ):
        super().__init__()
        if rel_pos_num_buckets > rel_pos_max_distance:
            raise UserError(
                f"rel_pos_num_buckets {rel_pos_num_buckets} given; expected no more than "
                f"rel_pos_max_distance, {rel_pos_max_distance}; lower it"
            )
        of_feed, kwargs = groupby_prefix_and_trim("ff_", kwargs)
        of_attention, _ = groupby_prefix_and_trim("attn_", kwargs)
        self.dim, self.depth, self.pre_norm = dim, depth, pre_norm
        self.residual_attn, self.cross_residual_attn = residual_attn, cross_residual_attn
        self.has_pos_emb = position_infused_attn
        self.pia_pos_emb = FixedPositionalEmbedding(dim) if position_infused_attn else None
        self.rotary_pos_emb, self.rel_pos = always(None), None
        plain = ("c", "f") if cross_attend and only_cross else ("a", "f")
        plain = ("a", "c", "f") if cross_attend and not only_cross else plain
        plain = ("f", *plain) if macaron else plain
        self.layer_types = custom_layers or _layer_types(plain, depth, par_ratio, sandwich_coef)
        self.num_attn_layers = sum(kind == "a" for kind in self.layer_types)
        norm = partial(_norm_class(use_scalenorm, use_rmsnorm, use_rezero), dim)
        self.layers = nn.ModuleList()
        for kind in self.layer_types:
            if kind == "f":
                layer = FeedForward(dim, **of_feed)
                layer = Scale(0.5, layer) if macaron else layer
            elif kind in ("a", "c"):
                sees_past = {"causal": causal} if kind == "a" else {}
                layer = Attention(dim, heads=heads, **sees_past, **of_attention)
                layer = Rezero(layer) if use_rezero else layer
            else:
                raise UserError(f"layer {kind!r} given; expected 'a', 'c' or 'f'")
            join = GRUGating(dim) if gate_residual else Residual()
            self.layers.append(nn.ModuleList([norm(), layer, join]))

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        mems: Sequence[Tensor] | None = None,
        return_hiddens: bool = False,
    ) -> Any:
        """Run the layers.

        Args:
            x: Tokens (B, L, D).
            context: What cross-attention reads (B, M, D).
            mask: Boolean (B, L), True where a token may be seen.
            context_mask: Boolean (B, M).
            mems: States in front of the keys, one for each self-attention.
            return_hiddens: Return ``LayerIntermediates`` too.

        Returns:
            Tokens (B, L, D); with ``return_hiddens`` a pair.
        """
        hiddens: list[Tensor] = []
        tables: list[Intermediates] = []
        previous: dict[str, Tensor | None] = {"a": None, "c": None}
        keeps = {"a": self.residual_attn, "c": self.cross_residual_attn}
        memories = iter(mems or [None] * self.num_attn_layers)
        for index, (kind, (norm, layer, join)) in enumerate(
            zip(self.layer_types, self.layers, strict=True)
        ):
            entering = norm(x) if self.pre_norm else x
            if kind == "f":
                out = layer(entering)
            else:
                options: dict[str, Any] = {"mask": mask, "prev_attn": previous[kind]}
                if kind == "a":
                    hiddens.append(x)
                    options |= {"sinusoidal_emb": self.pia_pos_emb, "rel_pos": self.rel_pos}
                    options |= {"mem": next(memories)}
                else:
                    options |= {"context": context, "context_mask": context_mask}
                out, found = layer(entering, **options, tables=return_hiddens or keeps[kind])
                tables.append(found)
                previous[kind] = found.pre_softmax_attn if keeps[kind] else None
            x = join(out, x)
            if not self.pre_norm and index < len(self.layers) - 1:
                x = norm(x)
        return (x, LayerIntermediates(hiddens, tables)) if return_hiddens else x


def _norm_class(scale: bool, rms: bool, rezero: bool) -> Any:
    if rezero:
        return nn.Identity
    return RMSNorm if rms else ScaleNorm if scale else nn.LayerNorm


class Encoder(AttentionLayers):
    """``AttentionLayers`` whose tokens see those after them; takes its parameters.

    Raises:
        UserError: ``causal`` is given.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        if "causal" in kwargs:
            raise UserError("causal given to an Encoder; expected none; use AttentionLayers")
        super().__init__(*args, **kwargs)


class TransformerWrapper(nn.Module):
    """Embeddings in front of ``AttentionLayers``, a last norm and logits behind them.

    Args:
        num_tokens: V.
        max_seq_len: Most tokens L of a row.
        attn_layers: The layers.
        emb_dim: Width of the embeddings, projected to D; None for D.
        max_mem_len: Tokens of a row that ``return_mems`` keeps; 0 for all.
        emb_dropout: Dropout probability of the embeddings.
        num_memory_tokens: Learned tokens in front of all rows: arXiv:2006.11527.
        tie_embedding: Compute logits with the token embeddings.
        use_pos_emb: Add learned places.

    Raises:
        UserError: ``attn_layers`` are something else.
    """

    def __init__(
        self,
        *,
        num_tokens: int,
        max_seq_len: int,
        attn_layers: AttentionLayers,
        emb_dim: int | None = None,
        max_mem_len: int = 0,
        emb_dropout: float = 0.0,
        num_memory_tokens: int | None = None,
        tie_embedding: bool = False,
        use_pos_emb: bool = True,
    ):
        super().__init__()
        if not isinstance(attn_layers, AttentionLayers):
            raise UserError(
                f"attn_layers is a {type(attn_layers).__name__}; expected AttentionLayers, as "
                "Encoder is"
            )
        dim = attn_layers.dim
        emb_dim = default(emb_dim, dim)
        self.max_seq_len, self.max_mem_len = max_seq_len, int(max_mem_len)
        self.num_tokens, self.num_memory_tokens = num_tokens, num_memory_tokens or 0
        self.token_emb = nn.Embedding(num_tokens, emb_dim)
        self.pos_emb: Any = always(0)
        if use_pos_emb and not attn_layers.has_pos_emb:
            self.pos_emb = AbsolutePositionalEmbedding(emb_dim, max_seq_len)
        self.emb_dropout = nn.Dropout(emb_dropout)
        self.project_emb = nn.Linear(emb_dim, dim) if emb_dim != dim else nn.Identity()
        self.attn_layers = attn_layers
        self.norm = nn.LayerNorm(dim)
        self.init_()
        # Conditioners do not use it, but their checkpoints hold it.
        self.to_logits: Any = self._tied_logits if tie_embedding else nn.Linear(dim, num_tokens)
        if self.num_memory_tokens > 0:
            self.memory_tokens = nn.Parameter(torch.randn(self.num_memory_tokens, dim))

    def init_(self) -> None:
        """Draw the token embeddings from N(0, 0.02)."""
        nn.init.normal_(self.token_emb.weight, std=0.02)

    def _tied_logits(self, states: Tensor) -> Tensor:
        return states @ self.token_emb.weight.T

    def forward(
        self,
        x: Tensor,
        return_embeddings: bool = False,
        mask: Tensor | None = None,
        return_mems: bool = False,
        return_attn: bool = False,
        mems: Sequence[Tensor] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the transformer.

        Args:
            x: Token numbers (B, L), L at most ``max_seq_len``.
            return_embeddings: Return the states in place of the logits.
            mask: Boolean (B, L), True where a token may be seen.
            return_mems: Return what later rows may take as ``mems`` too.
            return_attn: Return the probabilities (B, heads, L, L) of the attentions too.
            mems: States in front of each self-attention's keys.
            **kwargs: Further arguments of the layers.

        Returns:
            States after the last norm (B, L, D), or logits (B, L, V); a pair where more is asked.

        Raises:
            ValueError: Too many tokens, or no (B, L).
        """
        if x.ndim != 2 or x.shape[1] > self.max_seq_len:
            raise ValueError(
                f"tokens have shape {tuple(x.shape)}; expected (B, L) with L at most "
                f"{self.max_seq_len}"
            )
        embedded = self.project_emb(self.emb_dropout(self.token_emb(x) + self.pos_emb(x)))
        if self.num_memory_tokens > 0:
            memory = repeat(self.memory_tokens, "n d -> b n d", b=len(x))
            embedded = torch.cat((memory, embedded), dim=1)  # (B, memory + L, D)
            mask = None if mask is None else F.pad(mask, (self.num_memory_tokens, 0), value=True)
        asked = return_mems or return_attn
        found = self.attn_layers(embedded, mask=mask, mems=mems, return_hiddens=asked, **kwargs)
        states, seen = found if asked else (found, None)
        states = self.norm(states)[:, self.num_memory_tokens :]  # (B, L, D)
        out = states if return_embeddings else self.to_logits(states)
        if return_mems:
            return out, self._memories(seen.hiddens, mems)
        if return_attn:
            return out, [tables.post_softmax_attn for tables in seen.attn_intermediates]
        return out

    def _memories(self, hiddens: Sequence[Tensor], mems: Sequence[Tensor] | None) -> list[Tensor]:
        """Return the newest ``max_mem_len`` states (B, M', D) of each self-attention."""
        rows: Iterable[Tensor] = hiddens
        if mems:
            rows = [torch.cat(pair, dim=-2) for pair in zip(mems, hiddens, strict=True)]
        return [states[:, -self.max_mem_len :].detach() for states in rows]

"""The attention of x-transformers: memories, talking heads, and tables to look at.

Shapes: B batch, N queries, M keys, heads, d head width, D width; tables are (B, heads, N, M).
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from ldm.modules.attention_processors import AttentionLayer
from ldm.util import default

DEFAULT_DIM_HEAD = 64

Intermediates = namedtuple("Intermediates", ["pre_softmax_attn", "post_softmax_attn"])
"""Scores and probabilities of an attention; None where nobody asked for them.

Scores of what may not be seen are the dtype's lowest number; with talking heads they are those
before the heads are mixed, and nothing is masked in them yet.
"""


class Attention(AttentionLayer):
    """Attention of tokens; q, k, v have no bias, the output has one.

    Plain attention goes through ``processor``. What needs the tables spells them out.

    Args:
        dim: D.
        dim_head: d, whatever D is.
        heads: Heads.
        causal: Let no token see those after it.
        mask: Kept for CompVis.
        talking_heads: Mix heads before and after the softmax: arXiv:2003.02436.
        sparse_topk: Keep only so many keys for each query.
        use_entmax15: Kept for CompVis, where it is not implemented either.
        num_mem_kv: Learned keys and values in front of the others: arXiv:1907.01470.
        dropout: Dropout probability of the probabilities.
        on_attn: Gate the output: arXiv:1908.06954.

    Raises:
        NotImplementedError: ``use_entmax15`` is set.
    """

    def __init__(
        self,
        dim: int,
        dim_head: int = DEFAULT_DIM_HEAD,
        heads: int = 8,
        causal: bool = False,
        mask: Tensor | None = None,
        talking_heads: bool = False,
        sparse_topk: int | None = None,
        use_entmax15: bool = False,
        num_mem_kv: int = 0,
        dropout: float = 0.0,
        on_attn: bool = False,
    ):
        super().__init__()
        if use_entmax15:
            raise NotImplementedError("entmax is not implemented; leave use_entmax15 out")
        inner = heads * dim_head
        self.heads, self.scale = heads, dim_head**-0.5
        self.causal, self.mask, self.sparse_topk = causal, mask, sparse_topk
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(dim, inner, bias=False)
        self.to_v = nn.Linear(dim, inner, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.talking_heads = talking_heads
        if talking_heads:
            self.pre_softmax_proj = nn.Parameter(torch.randn(heads, heads))
            self.post_softmax_proj = nn.Parameter(torch.randn(heads, heads))
        self.num_mem_kv = num_mem_kv
        if num_mem_kv > 0:
            self.mem_k = nn.Parameter(torch.randn(heads, num_mem_kv, dim_head))
            self.mem_v = nn.Parameter(torch.randn(heads, num_mem_kv, dim_head))
        self.attn_on_attn = on_attn
        self.to_out = nn.Linear(inner, dim)
        if on_attn:
            self.to_out = nn.Sequential(nn.Linear(inner, dim * 2), nn.GLU())

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
        rel_pos: Callable[[Tensor], Tensor] | None = None,
        sinusoidal_emb: Callable[..., Tensor] | None = None,
        prev_attn: Tensor | None = None,
        mem: Tensor | None = None,
        tables: bool = True,
    ) -> tuple[Tensor, Intermediates]:
        """Attend.

        Args:
            x: Queries (B, N, D).
            context: Keys and values (B, M, D); ``x`` itself when None.
            mask: Boolean (B, N), True where a query is a token, and a key without a context. A
                query that is none reads the mean of all values.
            context_mask: Boolean (B, M).
            rel_pos: Changes the scores by relative place.
            sinusoidal_emb: Adds places to queries and keys, as ``FixedPositionalEmbedding``.
            prev_attn: Scores of the layer before, added to these: arXiv:2012.11747.
            mem: States (B, M', D) in front of keys and values: arXiv:1901.02860.
            tables: Return scores and probabilities; the processor returns none.

        Returns:
            Tokens (B, N, D), and the tables.
        """
        masks = self._masks(x, context, mask, context_mask, mem)
        q, k, v = self._project(x, default(context, x), sinusoidal_emb, mem)
        mixed = self.talking_heads or self.sparse_topk is not None
        asked = tables or masks is not None or prev_attn is not None or rel_pos is not None
        if mixed or asked or (self.training and self.dropout.p > 0):
            out, found = self._spell_out(q, k, v, masks, prev_attn, rel_pos)
        else:
            seen = self._past(q, k) if self.causal else None
            out = self.processor(q, k, v, mask=seen, scale=self.scale)  # (B, heads, N, d)
            found = Intermediates(None, None)
        return self.to_out(rearrange(out, "b heads n d -> b n (heads d)")), found  # (B, N, D)

    def _project(
        self,
        x: Tensor,
        context: Tensor,
        sinusoidal_emb: Callable[..., Tensor] | None,
        mem: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return q (B, heads, N, d), k and v (B, heads, M, d), memories in front."""
        values = context if mem is None else torch.cat((mem, context), dim=1)
        queries, keys = x, values
        if sinusoidal_emb is not None:
            queries = x + sinusoidal_emb(x, offset=values.shape[1] - x.shape[1])
            keys = values + sinusoidal_emb(values)
        projected = (self.to_q(queries), self.to_k(keys), self.to_v(values))
        q, k, v = (
            rearrange(p, "b n (heads d) -> b heads n d", heads=self.heads) for p in projected
        )
        if self.num_mem_kv > 0:
            rows = (repeat(m, "h n d -> b h n d", b=len(x)) for m in (self.mem_k, self.mem_v))
            k, v = (torch.cat(pair, dim=2) for pair in zip(rows, (k, v), strict=True))
        return q, k, v

    def _masks(
        self,
        x: Tensor,
        context: Tensor | None,
        mask: Tensor | None,
        context_mask: Tensor | None,
        mem: Tensor | None,
    ) -> Tensor | None:
        """Return which queries are tokens and which keys they may see: (B, 1, N, M), or None."""
        if mask is None and context_mask is None:
            return None
        queries = default(mask, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))
        keys = queries if context is None else context_mask
        if keys is None:
            keys = torch.ones(context.shape[:2], dtype=torch.bool, device=x.device)
        keys = F.pad(keys, (0 if mem is None else mem.shape[1], 0), value=True)
        seen = queries[:, None, :, None] & keys[:, None, None, :]
        return F.pad(seen, (self.num_mem_kv, 0), value=True)

    def _past(self, q: Tensor, k: Tensor) -> Tensor:
        """Return which keys are no later than the query: (N, M); memories are earlier than all."""
        n, m = q.shape[2], k.shape[2]
        return torch.ones(n, m, dtype=torch.bool, device=q.device).tril(m - n)

    def _spell_out(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        masks: Tensor | None,
        prev_attn: Tensor | None,
        rel_pos: Callable[[Tensor], Tensor] | None,
    ) -> tuple[Tensor, Intermediates]:
        """Attend with the tables written out: (B, heads, N, d), and they."""
        scores = torch.einsum("bhid,bhjd->bhij", q, k) * self.scale
        scores = before = scores if prev_attn is None else scores + prev_attn
        if self.talking_heads:
            scores = torch.einsum("bhij,hk->bkij", scores, self.pre_softmax_proj)
        scores = scores if rel_pos is None else rel_pos(scores)
        lowest = -torch.finfo(scores.dtype).max
        if masks is not None:
            scores = scores.masked_fill(~masks, lowest)
        if self.causal:
            scores = scores.masked_fill(~self._past(q, k), lowest)
        if self.sparse_topk is not None and self.sparse_topk < scores.shape[-1]:
            least = scores.topk(self.sparse_topk, dim=-1).values[..., -1:]
            scores = scores.masked_fill(scores < least, lowest)
        # The reference masks in place: its scores are these, unless heads were mixed.
        before = before if self.talking_heads or rel_pos is not None else scores
        after = scores.softmax(dim=-1)
        shares = self.dropout(after)
        if self.talking_heads:
            shares = torch.einsum("bhij,hk->bkij", shares, self.post_softmax_proj)
        return torch.einsum("bhij,bhjd->bhid", shares, v), Intermediates(before, after)

"""The transformer behind ``BERTEmbedder``: tokens with absolute positions, pre-norm blocks.

Shapes: B batch, L tokens, D width, heads, d head width, V vocabulary. Key names are those of
x-transformers as the reference has it, and so is the order inside ``attn_layers.layers``:
attention at even places, feed-forward at odd ones.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from ldm.modules.attention import FeedForward
from ldm.modules.attention_processors import AttentionLayer


class AbsolutePositionalEmbedding(nn.Module):
    """A learned vector for each of ``max_seq_len`` places."""

    def __init__(self, dim: int, max_seq_len: int):
        super().__init__()
        self.emb = nn.Embedding(max_seq_len, dim)
        nn.init.normal_(self.emb.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the first L places (1, L, D) for tokens x (B, L)."""
        return self.emb.weight[None, : x.shape[1]]


class Attention(AttentionLayer):
    """Self-attention of tokens; q, k, v have no bias, the output has one.

    Args:
        dim: D.
        heads: Heads.
        dim_head: d, whatever D is.
    """

    def __init__(self, dim: int, heads: int = 8, dim_head: int = 64):
        super().__init__()
        inner = heads * dim_head
        self.heads, self.scale = heads, dim_head**-0.5
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(dim, inner, bias=False)
        self.to_v = nn.Linear(dim, inner, bias=False)
        self.to_out = nn.Linear(inner, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            rearrange(project(x), "b n (heads d) -> b heads n d", heads=self.heads)
            for project in (self.to_q, self.to_k, self.to_v)
        )  # each (B, heads, L, d)
        if mask is not None:
            mask = rearrange(mask, "b m -> b 1 1 m")
        out = self.processor(q, k, v, mask=mask, scale=self.scale)  # (B, heads, L, d)
        return self.to_out(rearrange(out, "b heads n d -> b n (heads d)"))  # (B, L, D)


class Encoder(nn.Module):
    """Attention and feed-forward in turn, each normalised before and added.

    Args:
        dim: D.
        depth: Pairs of attention and feed-forward.
        heads: Heads.
        attn_dim_head: d.
        ff_mult: Width inside the feed-forward as a multiple of D.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int = 8,
        attn_dim_head: int = 64,
        ff_mult: int = 4,
    ):
        super().__init__()
        self.dim, self.depth = dim, depth
        self.layers = nn.ModuleList()
        for _ in range(depth):
            for block in (Attention(dim, heads, attn_dim_head), FeedForward(dim, mult=ff_mult)):
                self.layers.append(nn.ModuleList([nn.LayerNorm(dim), block]))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Run the blocks on (B, L, D); ``mask`` (B, L) is True where a token may be seen."""
        for norm, block in self.layers:
            attends = isinstance(block, Attention)
            x = x + (block(norm(x), mask) if attends else block(norm(x)))
        return x


class TransformerWrapper(nn.Module):
    """Embeddings in front of an ``Encoder``, a last norm and logits behind it.

    Args:
        num_tokens: V.
        max_seq_len: Most tokens L of a row.
        attn_layers: The encoder.
        emb_dropout: Dropout probability of the embeddings.
    """

    def __init__(
        self, *, num_tokens: int, max_seq_len: int, attn_layers: Encoder, emb_dropout: float = 0.0
    ):
        super().__init__()
        dim = attn_layers.dim
        self.max_seq_len, self.num_tokens = max_seq_len, num_tokens
        self.token_emb = nn.Embedding(num_tokens, dim)
        nn.init.normal_(self.token_emb.weight, std=0.02)
        self.pos_emb = AbsolutePositionalEmbedding(dim, max_seq_len)
        self.emb_dropout = nn.Dropout(emb_dropout)
        self.attn_layers = attn_layers
        self.norm = nn.LayerNorm(dim)
        # Conditioners do not use it, but their checkpoints hold it.
        self.to_logits = nn.Linear(dim, num_tokens)

    def forward(
        self, x: Tensor, return_embeddings: bool = False, mask: Tensor | None = None
    ) -> Tensor:
        """Run the transformer.

        Args:
            x: Token numbers (B, L), L at most ``max_seq_len``.
            return_embeddings: Return the states in place of the logits.
            mask: Boolean (B, L), True where a token may be seen.

        Returns:
            States after the last norm (B, L, D), or logits (B, L, V).

        Raises:
            ValueError: Too many tokens, or no (B, L).
        """
        if x.ndim != 2 or x.shape[1] > self.max_seq_len:
            raise ValueError(
                f"tokens have shape {tuple(x.shape)}; expected (B, L) with L at most "
                f"{self.max_seq_len}"
            )
        embedded = self.emb_dropout(self.token_emb(x) + self.pos_emb(x))  # (B, L, D)
        states = self.norm(self.attn_layers(embedded, mask))  # (B, L, D)
        return states if return_embeddings else self.to_logits(states)

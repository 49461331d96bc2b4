"""The arithmetic of attention: interchangeable plain callables, and what the layers share.

Shapes: B batch, N queries, M keys, d head width; q (B,heads,N,d), k and v (B,heads,M,d).
A mask is boolean, True where attention is allowed, and broadcasts to (B,heads,N,M).
All three processors agree to float32 rounding; they differ in speed and memory only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.types import AttentionProcessor

BesideAttention = Callable[[Tensor], Tensor | None]
"""Attention to something else: q (B,heads,N,d) -> the same shape to add, or None for nothing.

Beside the processor and not inside it: who controls attention replaces the processor's result, and
sees the context's own keys only.
"""
SMALL_TABLE = 2**20
"""Queries x keys below which probabilities are held when training on a CPU in half precision."""


def sdpa(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, scale: float) -> Tensor:
    """Attend through torch's fused kernel (the default).

    Training on a CPU in half precision takes the explicit form for small tables: forward and
    backward, it takes a quarter to half of the time of torch's fused CPU kernel there. In float32
    the fused one is ahead.
    """
    on_cpu = q.requires_grad and q.device.type == "cpu"
    half = q.dtype != torch.float32
    if on_cpu and half and q.shape[2] * k.shape[2] < SMALL_TABLE:
        return eager(q, k, v, mask=mask, scale=scale)
    # The fused kernels refuse channels that lie apart, and the fallback holds the whole table.
    q, k, v = (a if a.stride(-1) == 1 else a.contiguous() for a in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def eager(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, scale: float) -> Tensor:
    """Attend with the probabilities (B,heads,N,M) spelled out, for those who want to see them."""
    probs = scores(q, k, mask=mask, scale=scale).softmax(dim=-1)
    return torch.einsum("bhnm,bhmd->bhnd", probs, v)


def scores(q: Tensor, k: Tensor, *, mask: Tensor | None, scale: float) -> Tensor:
    """Return what the softmax is taken of, (B,heads,N,M); the lowest number where masked."""
    found = torch.einsum("bhnd,bhmd->bhnm", q, k) * scale
    return found if mask is None else found.masked_fill(~mask, -torch.finfo(found.dtype).max)


@dataclass(frozen=True)
class Sliced:
    """Attend ``rows`` batch entries at a time: less memory, same result."""

    rows: int = 1

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, scale: float
    ) -> Tensor:
        masks = None if mask is None else mask.expand(q.shape[0], *mask.shape[1:])
        out = torch.empty_like(q)
        for start in range(0, q.shape[0], self.rows):
            part = slice(start, start + self.rows)
            out[part] = eager(
                q[part], k[part], v[part], mask=None if masks is None else masks[part], scale=scale
            )
        return out


class AttentionLayer(nn.Module):
    """Base of the layers of softmax attention whose arithmetic can be exchanged.

    ``processor`` is a plain object without weights, so that checkpoints do not know of it.
    ``set_attention_processor`` finds layers by this class.
    """

    # Of the class, so that whole modules which were pickled without it have it too.
    processor: AttentionProcessor = staticmethod(sdpa)
    beside: Sequence[BesideAttention] = ()
    """What cross-attention adds to the processor's result, before ``to_out``; adapters fill it."""


def set_attention_processor(model: nn.Module, processor: AttentionProcessor) -> int:
    """Give every ``AttentionLayer`` in ``model`` the same arithmetic. Weights are untouched.

    These are all layers of softmax attention in both forms of the UNet, in the encoder UNet of
    classifiers, in the autoencoders and in ``BERTEmbedder``. Not among them: CLIP's towers, whose
    causal attention is one call of torch's kernel, and ``LinearAttention``, which has no table of
    queries and keys.

    Args:
        model: A model or any part of one; ``model.model`` is a hub's UNet alone.
        processor: What every layer calls from now on.

    Returns:
        How many layers took it.

    Raises:
        UserError: It cannot be called, or is a module, whose weights would enter checkpoints.
    """
    if isinstance(processor, nn.Module) or not callable(processor):
        raise UserError(
            f"a {type(processor).__name__} was given as the processor of attention layers; expected"
            " a function or a plain object that is called with (q, k, v, *, mask, scale); keep"
            " weights outside of it"
        )
    layers = [module for module in model.modules() if isinstance(module, AttentionLayer)]
    for layer in layers:
        layer.processor = processor
    return len(layers)

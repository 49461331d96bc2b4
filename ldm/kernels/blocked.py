"""Attention in bfloat16 on a processor that multiplies it fast: three plain products a block.

torch's fused kernel computes its products in bfloat16 no faster than in float32 where a processor
has bfloat16's dot products (AVX-512) but no tiles for them (AMX). oneDNN's batched product does.

Shapes: B batch, N queries, M keys, d head width.
"""

from __future__ import annotations

import functools
from itertools import product

import torch
from torch import Tensor

from ldm.types import AttentionProcessor

TABLE = 2**20
"""Numbers of scores at once, for each thread: 2 MB, about what its cache holds."""
FEWEST_ROWS, FEWEST_KEYS = 32, 128
"""A product of fewer rows is slow; few keys, as a text's 77, are a small table for any kernel."""


@functools.cache
def pays() -> bool:
    """Return whether this processor is of the kind that this is faster on."""
    cpu = torch.backends.cpu.get_cpu_capability()
    return cpu.startswith("AVX512") and (
        torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()
    )


def attend_in_blocks(
    own: AttentionProcessor, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, scale: float
) -> Tensor:
    """Attend block by block of queries, where that is faster than ``own``.

    Args:
        own: What attends otherwise.
        q: Queries (B,heads,N,d).
        k: Keys (B,heads,M,d).
        v: Values (B,heads,M,d).
        mask: Handed to ``own``, with all else.
        scale: Of the scores.

    Returns:
        (B,heads,N,d); probabilities are rounded to bfloat16 before they weigh the values.
    """
    if mask is not None or not _suits(q, k, v):
        return own(q, k, v, mask=mask, scale=scale)
    (b, heads, n, d), m = q.shape, k.shape[2]
    out = q.new_empty(b, n, heads, d).transpose(1, 2)  # as tokens lie: heads side by side
    table = TABLE * torch.get_num_threads()
    rows = min(n, max(FEWEST_ROWS, table // m))
    together = max(1, table // (rows * m))  # heads
    for entry, first in product(range(b), range(0, heads, together)):
        some = slice(first, first + together)
        queries, keys, values = (x[entry, some].contiguous() for x in (q, k.mT, v))
        for start in range(0, n, rows):
            part = slice(start, start + rows)
            out[entry, some, part] = _attend(queries[:, part], keys, values, scale)
    return out


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attend with q (heads,N,d), k (heads,d,M) and v (heads,M,d)."""
    scores = torch.baddbmm(q.new_empty(()), q, k, beta=0, alpha=scale)
    return torch.bmm(scores.softmax(dim=-1), v)


def _suits(*tensors: Tensor) -> bool:
    """Return whether a call is one that is faster in blocks."""
    return (
        pays()
        and tensors[1].shape[2] >= FEWEST_KEYS
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and all(type(x) is Tensor and x.numel() for x in tensors)
        and all(x.device.type == "cpu" and x.dtype == torch.bfloat16 for x in tensors)
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))
    )

"""Attention in bfloat16 on a processor that multiplies it fast: three plain products a block.

torch's fused kernel computes its products in bfloat16 no faster than in float32 where a processor
has bfloat16's dot products (AVX-512) but no tiles for them (AMX). oneDNN's batched product does.

Shapes: B batch, N queries, M keys, d head width.
"""

from __future__ import annotations

import functools
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.kernels.element_type import computed_type
from ldm.types import AttentionProcessor

TABLE = 2**20
"""Numbers of scores at once, for each thread: 2 MB, about what its cache holds."""
FEWEST_ROWS = 32
"""A product of fewer rows is slow."""
LANES, VECTORS = 16, 2
"""Numbers of a vector, as float32, and vectors at a time. What is left over at a row's end costs as
much as many of them: a product is faster with 48 columns than with 40, and the probabilities of 96
keys are computed in half the time of 77."""
SHORT = 512
"""Keys up to which a row's end is much of it."""
LEAST_SCORES = 2**14
"""Scores of a head. With fewer, starting the products takes longer than they do."""
SHUT = -1e30
"""A score whose probability is 0."""


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
    q, k, v = (x.to(torch.bfloat16) for x in (q, k, v))  # as autocast does
    (b, heads, n, d), m = q.shape, k.shape[2]
    out = q.new_empty(b, n, heads, d).transpose(1, 2)  # as tokens lie: heads side by side
    table = TABLE * torch.get_num_threads()
    rows = min(n, max(FEWEST_ROWS, table // m))
    together = _divisor(heads, table // (rows * m))
    for entry, first in product(range(b), range(0, heads, together)):
        some = slice(first, first + together)
        queries, keys, values = _with_full_rows(
            q[entry, some], k[entry, some], v[entry, some], scale
        )
        for start in range(0, n, rows):
            part = slice(start, start + rows)
            out[entry, some, part] = _attend(queries[:, part], keys, values, scale)[..., :d]
    return out


def _divisor(heads: int, most: int) -> int:
    """Return the largest number of heads up to ``most`` that leaves no smaller rest."""
    return next(count for count in range(max(1, min(most, heads)), 0, -1) if heads % count == 0)


def _with_full_rows(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return q (heads,N,d'), k (heads,d',M') and v (heads,M',d'') whose rows leave nothing over.

    Short rows of scores get keys that nobody attends to: a coordinate more, 1 in each query and 0
    in each true key, makes their scores -1e30.
    """
    m, d = k.shape[1:]
    lacking = -m % (VECTORS * LANES) if m <= SHORT else 0
    if lacking:
        more = LANES - d % LANES
        q, k = F.pad(q, (0, more)), F.pad(k, (0, more, 0, lacking))
        q[..., d] = 1
        k[:, m:, d] = SHUT / scale
    v = F.pad(v, (0, -d % LANES, 0, lacking))
    return q.contiguous(), k.mT.contiguous(), v.contiguous()


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attend with q (heads,N,d), k (heads,d,M) and v (heads,M,d)."""
    scores = torch.baddbmm(q.new_empty(()), q, k, beta=0, alpha=scale)
    return torch.bmm(scores.softmax(dim=-1), v)


def _suits(*tensors: Tensor) -> bool:
    """Return whether a call is one that is faster in blocks."""
    return (
        pays()
        and tensors[0].shape[2] * tensors[1].shape[2] >= LEAST_SCORES
        and not torch.compiler.is_compiling()
        and all(type(x) is Tensor and x.numel() for x in tensors)
        and all(x.device.type == "cpu" and computed_type(x) == torch.bfloat16 for x in tensors)
        and not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors))
    )

"""Token merging: which of a map's tokens are so alike that one can stand for two.

Bipartite soft matching, arXiv:2210.09461, section 3, as arXiv:2303.17604 (section 4) has it for
diffusion: of each 2x2 tokens a random one is a destination, the other three are sources. The r
sources that are most alike a destination, by the cosine of their features, are averaged into it;
after a layer each gets its destination's value back.
Shapes: B rows, N = h w tokens, D width, n destinations, r merged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 2
"""Side of the squares that have one destination each."""


@dataclass(frozen=True)
class Matching:
    """Which tokens are merged into which, and which stay as they are.

    Attributes:
        destinations: Numbers of the destinations (n,).
        kept: For each row, the numbers of the sources that stay (B, N - n - r).
        merged: For each row, the numbers of those that are merged (B, r).
        into: For each of those, which of the n it is merged into (B, r).
    """

    destinations: Tensor
    kept: Tensor
    merged: Tensor
    into: Tensor

    def merge(self, x: Tensor) -> Tensor:
        """Return tokens (B, N, D) with the merged ones averaged in: (B, N - r, D), kept first."""
        kept, merged = taken(x, self.kept), taken(x, self.merged)
        into = self.into[..., None].expand_as(merged)
        means = x[:, self.destinations].scatter_reduce(1, into, merged, "mean", include_self=True)
        return torch.cat([kept, means], dim=1)

    def unmerge(self, x: Tensor) -> Tensor:
        """Return tokens (B, N - r, D) where they came from, with copies: (B, N, D)."""
        stayed = self.kept.shape[1]
        kept, means = x[:, :stayed], x[:, stayed:]
        count = stayed + means.shape[1] + self.merged.shape[1]
        whole = x.new_empty((len(x), count, x.shape[2]))
        whole[:, self.destinations] = means
        copies = taken(means, self.into)
        for places, tokens in ((self.kept, kept), (self.merged, copies)):
            whole.scatter_(1, places[..., None].expand_as(tokens), tokens)
        return whole


def taken(x: Tensor, numbers: Tensor) -> Tensor:
    """Return tokens of x (B, N, D) by their numbers in each row (B, k): (B, k, D)."""
    return x.gather(1, numbers[..., None].expand(-1, -1, x.shape[2]))


def match(x: Tensor, side: tuple[int, int], ratio: float, generator: torch.Generator) -> Matching:
    """Match the tokens of a map.

    Args:
        x: Tokens (B, N, D), row by row of the map.
        side: The map's (h, w), N = h w.
        ratio: The share of the tokens to merge: r = N ratio, rounded down, of the sources that
            there are.
        generator: Of the CPU; chooses the destinations, the same for all rows.
    """
    destinations = destinations_of(side, generator).to(x.device)  # (n,)
    is_source = torch.ones(x.shape[1], dtype=torch.bool, device=x.device)
    is_source[destinations] = False
    sources = is_source.nonzero()[:, 0]  # (N - n,)
    r = min(int(x.shape[1] * ratio), len(sources))
    unit = F.normalize(x, dim=-1)
    alike = unit[:, sources] @ unit[:, destinations].transpose(1, 2)  # (B, N - n, n)
    best, nearest = alike.max(dim=-1)  # (B, N - n) each
    order = best.argsort(dim=-1, descending=True)
    merged, kept = order[:, :r], order[:, r:]
    return Matching(destinations, sources[kept], sources[merged], nearest.gather(1, merged))


def destinations_of(side: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Choose one token of each whole square of a map (h, w): their numbers (n,), growing.

    Tokens beyond the last whole square are sources.
    """
    h, w = side
    rows, columns = h // STRIDE, w // STRIDE
    choice = torch.randint(STRIDE**2, (rows, columns), generator=generator)
    y = torch.arange(rows)[:, None] * STRIDE + choice // STRIDE
    x = torch.arange(columns)[None] * STRIDE + choice % STRIDE
    return (y * w + x).flatten().sort().values

"""Run a network over a large picture in overlapping tiles, in bounded memory and without seams.

What a network makes near a tile's border it would make otherwise inside the whole picture, as it
sees nothing beyond. So of the overlap of two tiles the outer three eighths of each are dropped, and
the two quarters in the middle are faded into each other. Where a network sees no further than three
eighths of the overlap, the result is that of the whole picture, up to rounding.

Shapes: C channels, H W sides of the picture, s the network's scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm.images.padding import round_up
from ldm.models.tiling.patches import starts_along

DROPPED = 3 / 8
"""Of an overlap, on either side."""


@dataclass(frozen=True)
class Cut:
    """How a picture is cut.

    Attributes:
        side: Of a tile, in pixels; 0 never cuts.
        overlap: Of neighbouring tiles, in pixels, at least; at most half of a tile.
        multiple: What places of tiles are multiples of, and what ``side`` and ``overlap`` must be.
    """

    side: int
    overlap: int
    multiple: int = 1

    def spans(self, length: int, scale: int) -> list[Span]:
        """Cut a side of the picture, in pixels, into the tiles' spans along it."""
        if self.side == 0 or length <= self.side:
            return [Span(0, length, torch.ones(length * scale))]
        *starts, last = starts_along(length, self.side, self.side - self.overlap)
        last = round_up(last, self.multiple)  # the last tile may be a little shorter than others
        places = [(start, start + self.side) for start in starts if start < last]
        places.append((last, length))
        weights = [self._weights(place, length, scale) for place in places]
        total = torch.zeros(length * scale)
        for (start, stop), weight in zip(places, weights, strict=True):
            total[start * scale : stop * scale] += weight
        return [
            Span(start, stop, weight / total[start * scale : stop * scale])
            for (start, stop), weight in zip(places, weights, strict=True)
        ]

    def _weights(self, place: tuple[int, int], length: int, scale: int) -> Tensor:
        """Weigh the pixels of the result along a tile: 0 near inner borders, then rising to 1."""
        start, stop = place
        at = (torch.arange((stop - start) * scale, dtype=torch.float64) + 0.5) / scale
        weights, dropped = torch.ones_like(at), DROPPED * self.overlap
        if self.overlap == 0:
            return weights.float()
        for inner, distance in ((start > 0, at), (stop < length, stop - start - at)):
            if inner:
                rise = (distance - dropped) / (self.overlap - 2 * dropped)
                weights = torch.minimum(weights, rise.clamp(0.0, 1.0))
        return weights.float()


@dataclass(frozen=True, eq=False)
class Span:
    """A tile's place along one side.

    Attributes:
        start, stop: In pixels of the picture.
        shares: Which part of each pixel of the result comes from this tile, ((stop - start) s,);
            those of all tiles add up to 1.
    """

    start: int
    stop: int
    shares: Tensor


def tiles_of(height: int, width: int, cut: Cut) -> int:
    """Return how many tiles a picture is cut into."""
    return len(cut.spans(height, 1)) * len(cut.spans(width, 1))


def in_tiles(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    cut: Cut,
    scale: int,
    done: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield the result in strips of rows from top to bottom, each as soon as it is finished.

    At any time there is one row of tiles in memory, not the whole result.

    Args:
        network: Takes a part (1, C, h, w); returns (1, C, h s, w s).
        x: The picture (1, C, H, W).
        cut: How it is cut.
        scale: s.
        done: Called after each tile.

    Yields:
        The number of a strip's first row in the result, and the strip (C, rows, W s), float32.
    """
    rows, columns = (cut.spans(length, scale) for length in x.shape[-2:])
    kept = torch.zeros(x.shape[1], 0, x.shape[-1] * scale)
    for number, row in enumerate(rows):
        strip = torch.zeros(x.shape[1], (row.stop - row.start) * scale, kept.shape[-1])
        strip[:, : kept.shape[1]] = kept
        for column in columns:
            part = x[..., row.start : row.stop, column.start : column.stop]
            made = network(part)[0]
            weight = row.shares[:, None] * column.shares
            strip[..., column.start * scale : column.stop * scale] += made * weight
            done()
        following = rows[number + 1].start if number + 1 < len(rows) else row.stop
        ready = (following - row.start) * scale
        yield row.start * scale, strip[:, :ready]
        kept = strip[:, ready:]

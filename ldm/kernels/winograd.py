"""3x3 convolutions with 4/9 of the multiplications: Winograd's F(2x2, 3x3), arXiv:1509.09308.

A map is cut into tiles of 4x4 pixels that overlap by two. Tiles and taps are brought into a basis
in which each of the 16 places of a tile is a product of matrices of its own, and the 2x2 outputs of
a tile are sums of these. In float32 the result is the direct one's to 1e-6. In bfloat16 the tiles
are rounded too: a layer's error stays below 0.01.

Shapes: B batch, C C' channels, h w sides, T tiles of a part of the maps, I images of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

ROWS = 2
"""Maps at a time for which it is decided whether tiles pay: a picture with guidance. How many there
are in truth does not matter: what a picture is drawn with must not change its bits."""
LEAST_TILES = 32
"""With fewer, reading 16 matrices in place of nine takes what multiplying less saves."""
LEAST_CHANNELS, LEAST_WORK = 96, 1e9
"""Channels, and multiplications and sums of a direct convolution: below, the sums of tiles cost
more than they save."""
GROWTH = 16 / 9
"""Bytes of the 16 matrices for each byte of the taps."""
PART = 2**25
"""Bytes of tiles at a time. They are four times as large as the maps: all at once they would be
memory from afar."""

OF_THREE = (1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)
"""Each place of a tile, in one direction, as a sum of the three taps: G."""
PLACES = [[a * b for a in down for b in right] for down in OF_THREE for right in OF_THREE]
"""The 16 places as sums of the 3x3 taps: G g G^T."""


def suits(layer: nn.Conv2d, x: Tensor) -> bool:
    """Return whether maps (B, C, h, w) can be convolved in tiles by a layer."""
    geometry = layer.kernel_size, layer.padding, layer.stride, layer.dilation
    usual = geometry == ((3, 3), (1, 1), (1, 1), (1, 1))
    return usual and not (x.shape[2] % 2 or x.shape[3] % 2)


def pays(layer: nn.Conv2d, x: Tensor) -> bool:
    """Return whether convolving maps (B, C, h, w) in tiles takes less time than directly."""
    c, h, w = x.shape[1:]
    positions = ROWS * h * w
    if positions < 4 * LEAST_TILES or min(c, layer.out_channels) < LEAST_CHANNELS:
        return False
    return 2 * 9 * c * layer.out_channels * positions >= LEAST_WORK


def pack_tiles(weight: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Return the 16 matrices (C', C) of 3x3 taps (C', C, 3, 3), packed for maps like ``x``."""
    taps = weight.reshape(-1, 9).mT  # (9, C' C)
    places = torch.mm(weight.new_tensor(PLACES), taps).view(16, *weight.shape[:2])
    count = x.shape[0] * x.shape[2] * x.shape[3] // 4
    return tuple(torch.ops.mkldnn._reorder_linear_weight(each, count) for each in places)


def convolve(x: Tensor, weights: tuple[Tensor, ...], bias: Tensor | None, channels: int) -> Tensor:
    """Convolve maps (B, C, h, w) of even sides with 3x3 taps, zeros around them.

    Args:
        x: The maps, float32 or bfloat16.
        weights: What ``pack_tiles`` returned.
        bias: (C',) or None.
        channels: C'.

    Returns:
        (B, C', h, w), channels last in memory.
    """
    maps = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)  # (B, h, w, C)
    padded = _with_border(maps)
    out = x.new_empty((*maps.shape[:3], channels))
    for images, first, last in _parts(maps.shape):
        tiles = _tiles_of(padded[images, 2 * first : 2 * last + 2])
        products = [
            torch.ops.mkldnn._linear_pointwise(tile, weight, None, "none", [], "none")
            for tile, weight in zip(tiles, weights, strict=True)
        ]
        _put_together(products, bias, out[images, 2 * first : 2 * last])
    return out.permute(0, 3, 1, 2)


def _with_border(maps: Tensor) -> Tensor:
    """Return maps (B, h, w, C) with zeros around them; what lies inside is written once."""
    b, h, w, c = maps.shape
    padded = maps.new_empty((b, h + 2, w + 2, c))
    for border in (padded[:, 0], padded[:, -1], padded[:, :, 0], padded[:, :, -1]):
        border.zero_()
    padded[:, 1:-1, 1:-1] = maps
    return padded


def _parts(shape: torch.Size) -> Iterator[tuple[slice, int, int]]:
    """Cut maps (B, h, w, C) into parts: some images, and a first and last row of tiles."""
    b, h, w, c = shape
    row, rows = 16 * 4 * c * (w // 2), h // 2  # bytes of a row of tiles in float32; their number
    count = max(1, PART // (row * rows))
    height = rows if count * row * rows <= PART or rows == 1 else max(1, PART // row)
    for image in range(0, b, count):
        for first in range(0, rows, height):
            yield slice(image, image + count), first, min(first + height, rows)


def _tiles_of(maps: Tensor) -> Tensor:
    """Return the tiles (16, T, C) of padded maps (I, 2 n + 2, w + 2, C): Eq. 8's B^T d B."""
    images, height, width, channels = maps.shape
    n, m = height // 2 - 1, width // 2 - 1
    rows = maps.new_empty((4, images, n, width, channels))
    _differences(maps, 1, rows.unbind(0))
    tiles = maps.new_empty((4, 4, images, n, m, channels))
    _differences(rows, 3, tiles.unbind(1))
    return tiles.view(16, images * n * m, channels)


def _differences(d: Tensor, dim: int, out: tuple[Tensor, ...]) -> None:
    """Write the four sums of each four neighbours along ``dim``, two apart: B^T d."""
    count = d.shape[dim] - 3
    d0, d1, d2, d3 = (d[(slice(None),) * dim + (slice(k, k + count, 2),)] for k in range(4))
    torch.sub(d0, d2, out=out[0])
    torch.add(d1, d2, out=out[1])
    torch.sub(d2, d1, out=out[2])
    torch.sub(d1, d3, out=out[3])


def _put_together(products: list[Tensor], bias: Tensor | None, out: Tensor) -> None:
    """Write the outputs (I, 2 n, w, C') of 16 products (T, C'), which are used up: A^T m A."""
    images, height, width, channels = out.shape
    n, m = height // 2, width // 2
    rows = [_two_of_four(products[4 * k : 4 * k + 4]) for k in range(4)]
    pixels = out.view(images, n, 2, m, 2, channels)
    for right in (0, 1):
        for down, found in enumerate(_two_of_four([row[right] for row in rows])):
            found, place = found.view(images, n, m, channels), pixels[:, :, down, :, right]
            place.copy_(found) if bias is None else torch.add(found, bias, out=place)


def _two_of_four(m: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return m0 + m1 + m2 and m1 - m2 - m3, using up m1."""
    m0, m1, m2, m3 = m
    return (m1 + m2).add_(m0), m1.sub_(m2).sub_(m3)

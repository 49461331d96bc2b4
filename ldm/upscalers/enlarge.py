"""Make a picture larger by any factor: a network's own scale, then Lanczos to the exact size.

    picture -> colours, transparency -> (network, in tiles) until it is large enough -> Lanczos
            -> transparency (Lanczos) put back

Shapes: H W pixels, s the network's scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageFilter

from ldm.errors import UserError, is_out_of_memory
from ldm.images.padding import round_up
from ldm.images.pixels import eight_bit
from ldm.settings.upscale import LARGEST_FACTOR, OVERLAP, SMALLEST_TILE, TILE
from ldm.upscalers.tiles import Cut, in_tiles, tiles_of
from ldm.upscalers.upscaler import Upscaler

LARGEST_PIXELS = 2**29
"""Of a result: 1.5 GB as it is held, which viewers and printers take with difficulty already."""
_LANCZOS = Image.Resampling.LANCZOS
_SPREAD = 8  # pixels that colours spread into transparent parts


@dataclass(frozen=True)
class TileProgress:
    """How far a picture has come.

    Attributes:
        done: Tiles that are finished.
        total: All tiles, in every pass of the network.
        tile: The side of a tile in pixels, which becomes smaller where memory runs out; 0 is the
            whole picture.
    """

    done: int
    total: int
    tile: int


TileObserver = Callable[[TileProgress], None]
"""Called after each tile; what it raises ends the work."""


def upscale(
    image: Image.Image,
    upscaler: Upscaler,
    *,
    factor: float | None = None,
    tile: int = TILE,
    overlap: int = OVERLAP,
    observer: TileObserver = lambda _: None,
) -> Image.Image:
    """Make a picture larger.

    Args:
        image: Of any mode. Greyscale of 16 bits is reduced to 8; transparency is kept, enlarged by
            Lanczos, as a network would invent some.
        upscaler: The network.
        factor: How many times larger each side becomes, from above 0 to 64; None is the network's
            own scale. The network is applied until the picture is large enough, and what is too
            large is made smaller by Lanczos.
        tile: The side of the tiles that are computed at a time, in pixels of the picture that the
            network is given; rounded up to what suits the network. 0 computes the whole at once.
            Where memory runs out, it is halved and the pass begins again.
        overlap: Of neighbouring tiles, likewise.
        observer: Told of each tile.

    Returns:
        RGB, or RGBA where the picture has transparency; sides are rounded, and at least 1.

    Raises:
        UserError: ``factor``, ``tile`` or ``overlap`` is out of range, or the result too large.
    """
    factor = float(upscaler.scale if factor is None else factor)
    target = enlarged_size(image.size, factor)
    return upscale_to(image, upscaler, target, tile=tile, overlap=overlap, observer=observer)


def upscale_to(
    image: Image.Image,
    upscaler: Upscaler,
    size: tuple[int, int],
    *,
    tile: int = TILE,
    overlap: int = OVERLAP,
    observer: TileObserver = lambda _: None,
) -> Image.Image:
    """Bring a picture to a width and height, in pixels; for the rest see ``upscale``."""
    cut = _cut_for(upscaler, tile, overlap)
    image = eight_bit(image)
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    colours = image.convert("RGB") if alpha is None else _spread(image.convert("RGBA"))
    colours = _Passes(upscaler, cut, observer).applied(colours, size)
    if colours.size != size:
        colours = colours.resize(size, _LANCZOS)
    if alpha is not None:
        colours.putalpha(alpha.resize(size, _LANCZOS))
    return colours


def enlarged_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return width and height after enlarging by a factor.

    Raises:
        UserError: The factor is out of range, or the result would be too large.
    """
    if not 0.0 < factor <= LARGEST_FACTOR:
        raise UserError(
            f"a factor of {factor:g} was given; expected one above 0, up to {LARGEST_FACTOR:g}; "
            "change it"
        )
    width, height = (max(1, round(side * factor)) for side in size)
    _check_pixels(width, height)
    return width, height


def _check_pixels(width: int, height: int) -> None:
    if width * height > LARGEST_PIXELS:
        raise UserError(
            f"the picture would become {width}x{height}; expected at most "
            f"{LARGEST_PIXELS / 1e6:.0f} megapixels; give a smaller factor"
        )


def passes_to(size: tuple[int, int], target: tuple[int, int], scale: int) -> int:
    """Return how often a network is applied so that a picture has a size at least.

    Args:
        size, target: Width and height.
        scale: The network's.

    Example:
        >>> passes_to((64, 64), (256, 256), 4), passes_to((64, 64), (300, 300), 4)
        (1, 2)
    """
    count, reached = 1, scale
    while scale > 1 and any(t > reached * side for side, t in zip(size, target, strict=True)):
        count, reached = count + 1, reached * scale
    return count


class _Passes:
    """Applies a network to a picture, once or several times."""

    def __init__(self, upscaler: Upscaler, cut: Cut, observer: TileObserver) -> None:
        self._upscaler, self._cut, self._observer = upscaler, cut, observer
        self._done = self._total = 0

    def applied(self, colours: Image.Image, target: tuple[int, int]) -> Image.Image:
        """Return RGB that is at least as large as ``target``, but for networks of scale 1."""
        count = passes_to(colours.size, target, self._upscaler.scale)
        _check_pixels(*(side * self._upscaler.scale**count for side in colours.size))
        pixels = np.asarray(colours)
        for left in range(count, 0, -1):
            pixels = self._with_smaller_tiles(pixels, left)
        return Image.fromarray(pixels)

    def _with_smaller_tiles(self, pixels: np.ndarray, left: int) -> np.ndarray:
        """Apply the network once; where memory runs out, again with tiles of half the side."""
        began = self._done
        while True:
            self._total = began + self._tiles(pixels.shape, left)
            try:
                return self._once(pixels)
            except (MemoryError, RuntimeError) as error:
                smaller = self._smaller(max(pixels.shape[:2]))
                if smaller is None or not is_out_of_memory(error):
                    raise
            # Only here: in the handler the error still holds the tile's memory.
            self._cut, self._done = smaller, began

    def _tiles(self, shape: tuple[int, ...], left: int) -> int:
        """Return how many tiles the passes that are left take, from pixels (H, W, 3) on."""
        height, width, scale = *shape[:2], self._upscaler.scale
        sides = [(height * scale**k, width * scale**k) for k in range(left)]
        return sum(tiles_of(*each, self._cut) for each in sides)

    def _smaller(self, longest: int) -> Cut | None:
        """Return a cut into tiles of half the side; None if they would be too small."""
        multiple, side = self._cut.multiple, min(self._cut.side or longest, longest)
        half = round_up(side // 2, multiple)
        if self._upscaler.tiles_itself or half >= side or half < SMALLEST_TILE:
            return None
        overlap = min(self._cut.overlap or OVERLAP, half // 2) // multiple * multiple
        return replace(self._cut, side=half, overlap=overlap)

    def _once(self, pixels: np.ndarray) -> np.ndarray:
        """Apply the network once to uint8 (H, W, 3)."""
        scale = self._upscaler.scale
        x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
        result = np.empty((pixels.shape[0] * scale, pixels.shape[1] * scale, 3), np.uint8)

        def network(part: torch.Tensor) -> torch.Tensor:
            return self._upscaler(part.float() / 255.0)

        for first, strip in in_tiles(network, x, self._cut, scale, self._tick):
            rows = strip.clamp(0.0, 1.0).mul(255.0).round().byte().numpy()
            result[first : first + rows.shape[1]] = rows.transpose(1, 2, 0)
        return result

    def _tick(self) -> None:
        self._done += 1
        self._observer(TileProgress(self._done, self._total, self._cut.side))


def _cut_for(upscaler: Upscaler, tile: int, overlap: int) -> Cut:
    """Return how pictures are cut for a network.

    Raises:
        UserError: Tiles are too small, or overlap by more than half.
    """
    if tile == 0 or upscaler.tiles_itself:
        return Cut(0, 0, upscaler.multiple)
    if tile < SMALLEST_TILE or not 0 <= overlap <= tile // 2:
        raise UserError(
            f"tiles of {tile} pixels that overlap by {overlap} were given; expected tiles of "
            f"{SMALLEST_TILE} or more, or 0 for the whole picture, and an overlap of at most half "
            "of one; change them"
        )
    overlap = round_up(overlap, upscaler.multiple)
    side = round_up(max(tile, 2 * overlap), upscaler.multiple)
    return Cut(side, overlap, upscaler.multiple)


def _spread(image: Image.Image) -> Image.Image:
    """Return a picture's colours, spread a little into parts that are wholly transparent.

    What stands there is often black; enlarged, it would darken the edge of what is seen.
    """
    alpha = image.getchannel("A")
    seen = np.asarray(alpha, np.float32)[..., None] / 255.0
    colours = np.asarray(image.convert("RGB"), np.float32)
    blur = ImageFilter.GaussianBlur(_SPREAD)
    weights = np.asarray(alpha.filter(blur), np.float32)[..., None] / 255.0
    premultiplied = Image.fromarray((colours * seen).round().astype(np.uint8)).filter(blur)
    near = (seen == 0) & (weights > 0)
    around = np.asarray(premultiplied, np.float32) / np.maximum(weights, 1e-3)
    return Image.fromarray(np.where(near, around.clip(0, 255), colours).round().astype(np.uint8))

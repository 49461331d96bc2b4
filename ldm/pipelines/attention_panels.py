"""Show attention maps: a heat map over the picture for each word, and words by steps.

As published (arXiv:2208.01626) the map of a word is scaled by its largest value. Words by steps
are scaled by the largest value of their row, so that a row shows when a word mattered.

Shapes: H W pixels, h w sides of a map, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ldm.images.lettering import draw_text
from ldm.modules.attention_control.words import Word

TILE, SMALL = 256, 112  # pixels of a picture's longer side in a panel, in a sheet
_LETTERS = 22, 15  # sizes of their fonts
_SMALLEST = 11  # size that a long word may shrink to
_GAP = 8
_COLUMNS = 6  # at most
_WHITE, _BLACK = (255, 255, 255), (24, 24, 24)
# Dark blue, purple, red, orange, pale yellow: each lighter than the one before, for grey prints.
_HEAT = np.array(
    [(10, 10, 60), (92, 18, 130), (205, 48, 84), (250, 146, 32), (255, 250, 170)], dtype=np.float32
)
_FAINTEST, _STRONGEST = 0.45, 0.85  # how much of the picture the heat hides


def word_maps(maps: np.ndarray, words: Sequence[Word]) -> np.ndarray:
    """Return the mean over each word's tokens: (..., h, w, L) -> (words, ..., h, w)."""
    return np.stack([maps[..., list(word.positions)].mean(-1) for word in words])


def label(word: Word) -> str:
    """Return what stands beneath a word's map: the word, or its tokens if no font can write it.

    Example:
        >>> label(Word("cat", (5,)))
        'cat'
    """
    if draw_text(word.text, _SMALLEST) is not None:
        return word.text
    first, last = word.positions[0], word.positions[-1]
    return f"token {first}" if first == last else f"tokens {first}-{last}"


def panel(pixels: np.ndarray, maps: np.ndarray, words: Sequence[Word]) -> np.ndarray:
    """Tile a picture and the heat maps of its words, with each word beneath.

    Args:
        pixels: uint8 (H, W, 3).
        maps: Its mean maps (h, w, L).
        words: At least one.

    Returns:
        uint8 RGB.
    """
    picture = _fitted(pixels, TILE)
    heats = word_maps(maps, words)
    tiles = [picture] + [overlay(picture, heat / _above_zero(heat)) for heat in heats]
    return captioned_tiles(tiles, ["picture"] + [label(word) for word in words])


def captioned_tiles(
    tiles: Sequence[np.ndarray], texts: Sequence[str], columns: int = _COLUMNS
) -> np.ndarray:
    """Tile pictures in rows of about one length, each with a text beneath.

    Args:
        tiles: uint8 (H, W, 3), all of one size; at least one.
        texts: Of each; what no font here can write is written as escapes.
        columns: How many stand in a row, at most.

    Returns:
        uint8 RGB.
    """
    known = [text if draw_text(text, _SMALLEST) is not None else ascii(text) for text in texts]
    cells = [_captioned(tile, text) for tile, text in zip(tiles, known, strict=True)]
    rows = -(-len(cells) // columns)
    return _tiled(cells, -(-len(cells) // rows))


def sheet(pixels: np.ndarray, steps: Mapping[int, np.ndarray], words: Sequence[Word]) -> np.ndarray:
    """Lay out words (rows) by steps (columns).

    Args:
        pixels: uint8 (H, W, 3).
        steps: Number of a step, from 0, to the maps (h, w, L) at that step; at least one.
        words: At least one.

    Returns:
        uint8 RGB.
    """
    picture = _fitted(pixels, SMALL)
    heats = word_maps(np.stack(list(steps.values())), words)  # (words, steps, h, w)
    names = [_written(label(word), _LETTERS[1], 2 * SMALL) for word in words]
    left = max(name.shape[1] for name in names)
    head = [_written(f"step {number + 1}", _LETTERS[1], _cell_width(picture)) for number in steps]
    height, width = head[0].shape[0], _cell_width(picture)
    lines = [[_blank(height, left), *(_centred(text, height, width) for text in head)]]
    for name, row in zip(names, heats, strict=True):
        tiles = [overlay(picture, heat / _above_zero(row)) for heat in row]
        side = max(picture.shape[0], name.shape[0])  # a wide picture's leaves room for the word
        cells = [_centred(tile, side, width) for tile in tiles]
        lines.append([_centred(_flush_right(name, left), side, left), *cells])
    return _framed([_beside(line) for line in lines])


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay a heat map over a picture in grey.

    Args:
        picture: uint8 (H, W, 3).
        heat: (h, w) in [0, 1].

    Returns:
        uint8 (H, W, 3).
    """
    h, w = picture.shape[:2]
    size = Image.fromarray(heat.astype(np.float32)).resize((w, h), Image.Resampling.BICUBIC)
    value = np.clip(np.asarray(size), 0.0, 1.0)[..., None]  # (H, W, 1)
    grey = np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float32)[..., None]
    stops = np.linspace(0.0, 1.0, len(_HEAT))
    colour = np.stack([np.interp(value[..., 0], stops, _HEAT[:, c]) for c in range(3)], axis=-1)
    share = _FAINTEST + (_STRONGEST - _FAINTEST) * value
    return np.round(grey * (1.0 - share) + colour * share).astype(np.uint8)


def _above_zero(values: np.ndarray) -> float:
    return max(float(values.max()), np.finfo(np.float32).tiny)


def _fitted(pixels: np.ndarray, side: int) -> np.ndarray:
    """Scale a picture, up or down, to a longer side."""
    h, w = pixels.shape[:2]
    scale = side / max(h, w)
    size = max(round(w * scale), 1), max(round(h * scale), 1)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _cell_width(picture: np.ndarray) -> int:
    """Return a cell's width: a tall picture's leaves room for words."""
    return max(picture.shape[1], max(picture.shape[:2]) // 2)


def _written(text: str, size: int, width: int) -> np.ndarray:
    """Return black letters on white, RGB, that are no wider than ``width``."""
    cover = _narrow(text, size, width)
    shade = cover[..., None].astype(np.float32) / 255.0
    return np.round(np.array(_WHITE) * (1 - shade) + np.array(_BLACK) * shade).astype(np.uint8)


def _narrow(text: str, size: int, width: int) -> np.ndarray:
    """Return the letters smaller, or the text shorter, until it fits; as high as at ``size``."""
    smaller = size
    cover = draw_text(text, smaller)
    while cover.shape[1] > width and smaller > _SMALLEST:
        smaller -= 1
        cover = draw_text(text, smaller)
    while cover.shape[1] > width and len(text) > 1:
        text = text[:-1]
        cover = draw_text(f"{text}..", smaller)
    missing = 2 * size - cover.shape[0]
    return np.pad(cover[:, :width], ((missing // 2, missing - missing // 2), (0, 0)))


def _blank(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), _WHITE, np.uint8)


def _centred(tile: np.ndarray, height: int, width: int) -> np.ndarray:
    canvas = _blank(height, width)
    h, w = tile.shape[:2]
    top, left = (height - h) // 2, (width - w) // 2
    canvas[top : top + h, left : left + w] = tile
    return canvas


def _flush_right(tile: np.ndarray, width: int) -> np.ndarray:
    return np.concatenate([_blank(tile.shape[0], width - tile.shape[1]), tile], axis=1)


def _captioned(tile: np.ndarray, text: str) -> np.ndarray:
    width = _cell_width(tile)
    written = _written(text, _LETTERS[0], width)
    parts = (tile, written)
    return np.concatenate([_centred(part, part.shape[0], width) for part in parts])


def _beside(cells: Sequence[np.ndarray]) -> np.ndarray:
    gap = _blank(cells[0].shape[0], _GAP)
    return np.concatenate([part for cell in cells for part in (gap, cell)] + [gap], axis=1)


def _framed(lines: Sequence[np.ndarray]) -> np.ndarray:
    gap = _blank(_GAP, lines[0].shape[1])
    return np.concatenate([part for line in lines for part in (gap, line)] + [gap])


def _tiled(cells: Sequence[np.ndarray], columns: int) -> np.ndarray:
    empty = [_blank(*cells[0].shape[:2])] * (-len(cells) % columns)
    filled = [*cells, *empty]
    return _framed([_beside(filled[at : at + columns]) for at in range(0, len(filled), columns)])

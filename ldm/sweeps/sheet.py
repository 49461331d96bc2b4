"""The sheet of a sweep: all pictures in rows and columns, with the settings beside them.

    z label
             x label   x label
    y label  picture   picture
    y label  picture   picture

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from ldm.budgets import PIXELS
from ldm.images.lettering import HOW_TO_INSTALL, draw_text
from ldm.sweeps.plan import Sweep

GAP = 4  # pixels between pictures, and around the sheet
_NARROWEST = 112  # pixels of a column: a label of a tiny picture needs room too
_LINES = 4  # of a label; what is longer ends in three dots
_PAPER, _INK, _EMPTY = 255, 0, 224


class Sheet:
    """A sheet that is filled picture by picture; it is all that is kept of them.

    Args:
        sweep: What is drawn.
        size: Height and width of the largest picture, in pixels.
        letters: Height of the labels' letters in pixels; None suits the pictures.

    Attributes:
        notices: Sentences for the user: pictures made smaller, labels that no font has.
    """

    def __init__(self, sweep: Sweep, size: tuple[int, int], letters: int | None = None) -> None:
        self.notices: list[str] = []
        columns, rows, blocks = sweep.shape
        self.scale = _scale(size, columns, rows * blocks)
        self.height, self.width = (max(round(side * self.scale), 1) for side in size)
        if self.scale < 1:
            self.notices.append(
                f"the sheet shows pictures at {self.scale:.2g} of their size; those in the folder "
                "keep theirs"
            )
        self._letters = letters or min(max(self.width // 20, 14), 32)
        self._column = max(self.width, _NARROWEST)
        widths = self._column, self._column, self._column * columns
        x, y, z = (self._labels(sweep.labels(which), widths[which]) for which in range(3))
        self._left = max(each.shape[1] for each in y) + (GAP if any(map(np.size, y)) else 0)
        self._row = max(self.height, *(each.shape[0] for each in y))
        self._top = max(each.shape[0] for each in x)
        self._title = max(each.shape[0] for each in z)
        self._lay_out(sweep.shape, x, y, z)

    def _labels(self, texts: Sequence[str], width: int) -> list[np.ndarray]:
        lacking = [text for text in texts if text and draw_text(text, self._letters) is None]
        if lacking and self.notices[-1:] != [_unwritten(lacking[0])]:
            self.notices.append(_unwritten(lacking[0]))
        return [_written(text, self._letters, width) for text in texts]

    def _lay_out(
        self,
        shape: tuple[int, int, int],
        x: list[np.ndarray],
        y: list[np.ndarray],
        z: list[np.ndarray],
    ) -> None:
        columns, rows, blocks = shape
        block = self._title + self._top + rows * (self._row + GAP) + GAP
        width = self._left + columns * (self._column + GAP) + GAP
        self.pixels = np.full((blocks * block, width, 3), _PAPER, np.uint8)
        self._block = block
        for k in range(blocks):
            self._put(z[k], k * block + GAP // 2, GAP)
            for column, label in enumerate(x):
                _, left = self._corner((column, 0, k))
                bottom = k * block + self._title + self._top
                self._put(
                    label, bottom - label.shape[0], left + (self._column - label.shape[1]) // 2
                )
            for row, label in enumerate(y):
                top, _ = self._corner((0, row, k))
                self._put(label, top + (self._row - label.shape[0]) // 2, GAP)
            for row in range(rows):
                for column in range(columns):
                    self._show(
                        np.full((self.height, self.width, 3), _EMPTY, np.uint8), (column, row, k)
                    )

    def _corner(self, place: tuple[int, int, int]) -> tuple[int, int]:
        """Return the top and left of a cell."""
        column, row, block = place
        top = block * self._block + self._title + self._top + GAP + row * (self._row + GAP)
        return top, self._left + GAP + column * (self._column + GAP)

    def _put(self, label: np.ndarray, top: int, left: int) -> None:
        part = self.pixels[top : top + label.shape[0], left : left + label.shape[1]]
        part[:] = label[: part.shape[0], : part.shape[1], None]

    def _show(self, pixels: np.ndarray, place: tuple[int, int, int]) -> None:
        top, left = self._corner(place)
        height, width = min(pixels.shape[0], self.height), min(pixels.shape[1], self.width)
        top, left = top + (self._row - height) // 2, left + (self._column - width) // 2
        self.pixels[top : top + height, left : left + width] = pixels[:height, :width]

    def put(self, place: tuple[int, int, int], picture: np.ndarray) -> None:
        """Put a picture in its place, in the middle of it where it is smaller than others.

        Args:
            place: The cell's.
            picture: uint8 (H, W, 3); not modified.
        """
        if self.scale < 1:
            size = [max(round(side * self.scale), 1) for side in picture.shape[1::-1]]
            picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
        top, left = self._corner(place)
        self.pixels[top : top + self._row, left : left + self._column] = _PAPER
        self._show(picture, place)


def _scale(size: tuple[int, int], columns: int, rows: int) -> float:
    """Return what to scale pictures by, so that the sheet is a picture that is read again."""
    height, width = size[0] + GAP, max(size[1], _NARROWEST) + GAP
    most = PIXELS / 2  # the other half is for labels
    return min(1.0, (most / (height * width * columns * rows)) ** 0.5)


def _unwritten(text: str) -> str:
    return f"no font here has all characters of {text!r}, which stand as escapes; {HOW_TO_INSTALL}"


def _written(text: str, letters: int, width: int) -> np.ndarray:
    """Return a label in lines of at most a width: uint8 (H, W), black on white."""
    if not text:
        return np.zeros((0, 0), np.uint8)
    lines = [_line(each, letters) for each in _wrapped(text, letters, width)]
    canvas = np.full(
        (sum(len(line) for line in lines), max(each.shape[1] for each in lines)), _PAPER
    )
    top = 0
    for line in lines:
        canvas[top : top + len(line), : line.shape[1]] = _PAPER - line.astype(int)
        top += len(line)
    return canvas.astype(np.uint8)


@lru_cache(maxsize=4096)
def _line(text: str, letters: int) -> np.ndarray:
    """Return how much of each pixel a text covers; without a font for it, that of its escapes."""
    drawn = draw_text(text, letters)
    drawn = draw_text(ascii(text)[1:-1], letters) if drawn is None else drawn
    # Two letters high: a half is enough between lines.
    return drawn[letters // 2 :]


def _wrapped(text: str, letters: int, width: int) -> list[str]:
    """Return a text's lines: broken between words, and within those that are wider than a line."""
    lines: list[str] = []
    for word in _pieces(text, letters, width):
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and _line(joined, letters).shape[1] <= width:
            lines[-1] = joined
        else:
            lines.append(word)
        if len(lines) > _LINES:
            return [*lines[: _LINES - 1], f"{lines[_LINES - 1]}..."]
    return lines


def _pieces(text: str, letters: int, width: int) -> list[str]:
    pieces: list[str] = []
    for word in text.split():
        while word and _line(word, letters).shape[1] > width and len(pieces) <= _LINES:
            fits = 1
            while fits < len(word) and _line(word[: fits + 1], letters).shape[1] <= width:
                fits += 1
            pieces.append(word[:fits])
            word = word[fits:]
        if word:
            pieces.append(word)
    return pieces

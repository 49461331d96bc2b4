"""Encode a layout as a row of tokens, as taming-transformers does for CompVis's layout models.

An object is three tokens: its category, its upper left corner, its lower right corner. Corners are
points of a square grid with as many points as there are tokens. An absent object is the last token
three times. Two corners at the end give the part of the picture that is visible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from ldm.data.layout_picture import Box, draw_layout
from ldm.errors import UserError


class LayoutTokens:
    """Encode layouts.

    Args:
        categories: Number of categories.
        max_objects: Objects in a row of tokens.
        no_tokens: Size of the vocabulary.

    Raises:
        UserError: There are too few tokens for the categories.
    """

    def __init__(self, categories: int, max_objects: int, no_tokens: int):
        if not 0 < categories < no_tokens:
            raise UserError(
                f"{categories} categories and {no_tokens} tokens given; expected at least one "
                "category and more tokens than categories; raise no_tokens"
            )
        self.max_objects, self.no_tokens = max_objects, no_tokens
        self.sections = math.isqrt(no_tokens)

    @property
    def length(self) -> int:
        """Tokens in a row: what the conditioner's ``max_seq_len`` must be."""
        return 3 * self.max_objects + 2

    def place(self, x: float, y: float) -> int:
        """Return the token of a point; ``x`` and ``y`` are fractions of the picture's sides."""
        column, row = (round(value * (self.sections - 1)) for value in (x, y))
        return row * self.sections + column

    def corner(self, token: int) -> tuple[float, float]:
        """Return the point (x, y) of a token, as fractions of the picture's sides."""
        row, column = divmod(token, self.sections)
        return column / (self.sections - 1), row / (self.sections - 1)

    def encode(
        self,
        categories: np.ndarray,
        boxes: np.ndarray,
        frame: np.ndarray,
        mirrored: bool,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Return a layout's tokens, int64 (length,), with its objects in random order.

        Args:
            categories: (n,), from 0.
            boxes: (n, 4): left, top, right, bottom as fractions of the whole picture's sides.
            frame: (4,), likewise: the visible part of the picture. Objects outside it are left
                out; the corners of the others stay where they are in the whole picture.
            mirrored: The picture is mirrored left to right.
            rng: Source of the order.
        """
        seen = _overlap(boxes, frame)
        categories, boxes = categories[seen], boxes[seen]
        if mirrored:
            boxes, frame = _mirror(boxes), _mirror(frame[None])[0]
        order = rng.permutation(len(boxes))[: self.max_objects]
        tokens = [token for k in order for token in (int(categories[k]), *self._corners(boxes[k]))]
        tokens += [self.no_tokens - 1] * (3 * self.max_objects - len(tokens))
        return np.array([*tokens, *self._corners(frame)], np.int64)

    def decode(self, tokens: Sequence[int]) -> tuple[list[tuple[int, Box]], Box]:
        """Return a row's objects, as category and box, and the visible part of the picture.

        Boxes are left, top, right, bottom, as fractions of the whole picture's sides.
        """
        row = [int(token) for token in tokens]
        triples = (row[k : k + 3] for k in range(0, len(row) - 2, 3))
        objects = [
            (category, (*self.corner(first), *self.corner(second)))
            for category, first, second in triples
            if category != self.no_tokens - 1
        ]
        return objects, (*self.corner(row[-2]), *self.corner(row[-1]))

    def plot(
        self,
        conditional: Sequence[int],
        label_for_category_no: Callable[[int], str],
        figure_size: tuple[int, int],
    ) -> Tensor:
        """Draw a layout as boxes with names, under the name of taming-transformers.

        Args:
            conditional: A row of tokens (length,).
            label_for_category_no: Returns the name of a category, numbered from 0.
            figure_size: Width and height in pixels.

        Returns:
            (3, height, width) in [-1, 1].
        """
        objects, frame = self.decode(conditional)
        named = [(label_for_category_no(category), box) for category, box in objects]
        return draw_layout(named, frame, figure_size)

    def _corners(self, box: np.ndarray) -> tuple[int, int]:
        return self.place(box[0], box[1]), self.place(box[2], box[3])


def _overlap(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    low, high = np.maximum(boxes[:, :2], frame[:2]), np.minimum(boxes[:, 2:], frame[2:])
    return (high > low).all(1)


def _mirror(boxes: np.ndarray) -> np.ndarray:
    return np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)

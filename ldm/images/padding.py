"""Pad pictures and masks by reflection, for models that need sides of certain multiples."""

from __future__ import annotations

import numpy as np


def round_up(side: int, multiple: int) -> int:
    """Return the next multiple of ``multiple`` that is not below ``side``."""
    return -(-side // multiple) * multiple


def reflected(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pad an array (H, W, ...) at the bottom and the right by reflection.

    Args:
        array: A picture or a mask; a line of one pixel is repeated.
        height: The new H in pixels, not less than the old.
        width: The same for W.

    Example:
        >>> reflected(np.array([[1, 2, 3]]), 2, 5)
        array([[1, 2, 3, 2, 1],
               [1, 2, 3, 2, 1]])
    """
    below, right = height - array.shape[0], width - array.shape[1]
    rest = [(0, 0)] * (array.ndim - 2)
    return np.pad(array, [(0, below), (0, right), *rest], mode="reflect")

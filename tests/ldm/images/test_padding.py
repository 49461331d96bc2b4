"""Padding adds a reflection and touches nothing."""

from __future__ import annotations

import numpy as np
import pytest

from ldm.images.padding import reflected, round_up


def test_the_next_multiple_is_never_below():
    assert [round_up(side, 8) for side in (1, 7, 8, 9, 64)] == [8, 8, 8, 16, 64]


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (7, 9), (64, 64)])
@pytest.mark.parametrize("depth", [(), (3,)])
def test_the_original_stays_in_the_upper_left_corner(size, depth):
    array = np.random.default_rng(0).integers(0, 256, (*size, *depth), dtype=np.uint8)
    padded = reflected(array, 64, 72)
    assert padded.shape == (64, 72, *depth)
    assert np.array_equal(padded[: size[0], : size[1]], array)
    assert np.isin(padded, array).all()


def test_the_edge_is_the_mirror():
    line = np.arange(5)[None]
    assert reflected(line, 1, 9)[0].tolist() == [0, 1, 2, 3, 4, 3, 2, 1, 0]

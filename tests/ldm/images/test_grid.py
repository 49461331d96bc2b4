"""The contact sheet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldm.images.grid import make_grid


def pictures(count, height=5, width=7):
    shape = (count, height, width, 3)
    return list(np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("n_rows", [1, 3, 10])
def test_the_layout_is_torchvisions(count, n_rows):
    utils = pytest.importorskip("torchvision.utils")
    given = pictures(count)
    batch = torch.from_numpy(np.stack(given)).permute(0, 3, 1, 2)
    expected = utils.make_grid(batch, nrow=n_rows).permute(1, 2, 0).numpy()
    assert np.array_equal(make_grid(given, n_rows), expected)


def test_a_short_last_line_is_filled_with_black():
    grid = make_grid([np.full((4, 4, 3), 255, np.uint8)] * 3, n_rows=2)
    assert grid.shape == (14, 14, 3)
    assert grid[8:12, 2:6].min() == 255
    assert grid[8:12, 8:].max() == 0


def test_a_grid_of_one_shares_no_memory_with_its_picture():
    (given,) = pictures(1)
    grid = make_grid([given], 3)
    grid[:] = 0
    assert given.any()


def test_pictures_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        make_grid([*pictures(1), *pictures(1, height=9)], 2)


@pytest.mark.parametrize(("count", "n_rows"), [(0, 3), (2, 0)])
def test_an_empty_grid_is_refused(count, n_rows):
    with pytest.raises(ValueError, match="at least 1"):
        make_grid(pictures(count), n_rows)

"""How pictures of any proportions are brought to a size, and which part of a mask counts."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from apps.server.sdapi.area import read_mask, resized


def test_the_ways_to_resize_differ_in_what_becomes_of_the_proportions():
    picture = Image.new("RGB", (40, 20), (0, 255, 0))
    picture.paste((255, 0, 0), (0, 0, 10, 20))
    for mode, reds in ((0, 0.25), (1, 0.0), (2, 0.25)):
        made = resized(picture, (64, 64), mode)
        assert made.size == (64, 64)
        share = (np.asarray(made)[..., 0] > 128).mean()
        assert share == pytest.approx(reds, abs=0.02), mode
    # Filled above and below by what is at the edge.
    rows = np.asarray(resized(picture, (64, 64), 2))
    np.testing.assert_array_equal(rows[0], rows[10])


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 999), (999, 1), (3, 7)])
def test_pictures_of_any_proportions_are_resized(mode, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    assert resized(Image.fromarray(pixels), (64, 48), mode).size == (64, 48)


def test_a_masks_white_is_marked_and_so_are_its_opaque_parts():
    grey = Image.new("L", (3, 1))
    grey.putdata([0, 127, 128])
    assert np.asarray(read_mask(grey)).tolist() == [[0, 0, 255]]
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    clear.putpixel((0, 0), (255, 255, 255, 0))
    assert np.asarray(read_mask(clear)).tolist() == [[0, 255]]

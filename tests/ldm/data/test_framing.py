"""From any shape to one size: the largest part of that shape, upright or mirrored."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from small_pictures import noise

from ldm.data.framing import Framing
from ldm.errors import UserError

RNG = np.random.default_rng


def test_a_picture_becomes_a_square_in_the_model_range():
    x = Framing(8)(Image.fromarray(noise(20, 30)), RNG(0))
    assert (x.shape, x.dtype) == ((8, 8, 3), np.float32)
    assert -1 <= x.min() < x.max() <= 1


def test_the_middle_is_kept_whole_and_a_size_of_two_sides_is_height_and_width():
    assert Framing(10).choose((30, 20), RNG(0)).box == (5, 0, 25, 20)
    assert Framing([10, 20]).choose((30, 20), RNG(0)).box == (0, 2, 30, 17)
    assert Framing([10, 20])(Image.fromarray(noise()), RNG(0)).shape == (10, 20, 3)


def test_pixels_are_untouched_where_the_size_already_fits():
    pixels = noise(16, 16)
    assert (np.asarray(Framing(16).apply(*framed(Framing(16), pixels))) == pixels).all()
    square = Framing(None)
    assert (np.asarray(square.apply(*framed(square, noise(4, 8)))) == noise(4, 8)[:, 2:6]).all()


def framed(framing, pixels):
    image = Image.fromarray(pixels)
    return image, framing.choose(image.size, RNG(0))


def test_random_crops_reach_both_ends_and_stay_inside():
    framing = Framing(10, random_crop=True)
    boxes = [framing.choose((23, 20), RNG(k)).box for k in range(60)]
    assert {box[0] for box in boxes} == {0, 1, 2, 3}
    assert all(box[2] - box[0] == box[3] - box[1] == 20 for box in boxes)


def test_mirroring_has_its_probability():
    image = Image.fromarray(noise(8, 8))
    never, always, half = (Framing(8, flip_p=p) for p in (0.0, 1.0, 0.5))
    assert (always(image, RNG(0)) == never(image, RNG(0))[:, ::-1]).all()
    flips = [half.choose((8, 8), RNG(k)).mirrored for k in range(200)]
    assert 70 < sum(flips) < 130


def test_pictures_a_pixel_wide_and_thin_strips_are_framed_too():
    for shape in ((1, 1), (1, 50), (50, 1)):
        assert Framing([8, 24])(Image.fromarray(noise(*shape)), RNG(0)).shape == (8, 24, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0; expected pixels"),
        ({"size": [8, 8, 8]}, "one side or"),
        ({"size": 8, "flip_p": 1.5}, "flip_p is 1.5"),
        ({"size": 8, "interpolation": "cubic"}, "expected one of linear, bilinear, bicubic"),
    ],
)
def test_a_value_out_of_range_is_said(options, message):
    with pytest.raises(UserError, match=message):
        Framing(**options)

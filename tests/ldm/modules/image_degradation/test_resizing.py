"""Resizing: constants stay, ramps stay ramps, and OpenCV does the same."""

from __future__ import annotations

import numpy as np
import pytest

from ldm.errors import UserError
from ldm.modules.image_degradation.resizing import METHODS, resize

SIZES = [(35, 26), (17, 31), (100, 90), (140, 106), (71, 60), (10, 7), (70, 53)]


def random_picture(height=70, width=53):
    return np.random.default_rng(0).random((height, width, 3)).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", SIZES)
def test_a_constant_stays_what_it_is(method, size):
    out = resize(np.full((70, 53, 3), 0.3, np.float32), size, method)
    assert out.shape == (*size, 3)
    assert np.abs(out - 0.3).max() < 1e-6


@pytest.mark.parametrize("method", ["linear", "matlab"])
@pytest.mark.parametrize("width", [20, 80])
def test_a_ramp_stays_a_ramp_away_from_the_border(method, width):
    ramp = np.broadcast_to(np.arange(40.0, dtype=np.float32)[None, :, None], (4, 40, 3))
    out = resize(ramp, (4, width), method)
    expected = (np.arange(width) + 0.5) * 40 / width - 0.5
    inside = slice(width // 5, -width // 5)
    assert np.abs(out[0, inside, 0] - expected[inside]).max() < 1e-4


def test_an_area_half_as_large_is_the_mean_of_four_pixels():
    x = random_picture(8, 6)
    mean = x.reshape(4, 2, 3, 2, 3).mean((1, 3))
    assert np.abs(resize(x, (4, 3), "area") - mean).max() < 1e-6


def test_matlabs_way_does_not_alias_and_opencvs_does():
    """Stripes one pixel wide vanish to grey, or become other stripes."""
    stripes = np.zeros((8, 90, 3), np.float32)
    stripes[:, ::2] = 1
    assert resize(stripes, (8, 25), "matlab")[:, 5:-5].std() < 0.05
    assert resize(stripes, (8, 25), "linear").std() > 0.1


def test_the_input_is_not_modified_and_uint8_stays_uint8():
    x = (random_picture() * 255).astype(np.uint8)
    before = x.copy()
    out = resize(x, (20, 20), "cubic")
    assert out.dtype == np.uint8
    assert (x == before).all()


def test_an_unknown_method_is_said():
    with pytest.raises(UserError, match="'box' is not known; expected one of nearest, linear"):
        resize(random_picture(), (8, 8), "box")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("method", "flag"), [("nearest", 0), ("linear", 1), ("cubic", 2), ("area", 3), ("lanczos", 4)]
)
def test_opencv_does_the_same(method, flag, size):
    cv2 = pytest.importorskip("cv2")
    x = random_picture()
    theirs = cv2.resize(x, size[::-1], interpolation=flag)
    # OpenCV takes its Lanczos weights from a table of float32 sines.
    assert np.abs(resize(x, size, method) - theirs).max() < 1e-5
    x = (x * 255).astype(np.uint8)
    theirs = cv2.resize(x, size[::-1], interpolation=flag).astype(int)
    # Its integers have weights of 11 bits: some values round the other way.
    assert np.abs(resize(x, size, method) - theirs).max() <= 1

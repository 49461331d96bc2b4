"""BSRGAN's degradation: each step does what it says, and the numbers are the reference's."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.modules.image_degradation import degradation_fn_bsr, degradation_fn_bsr_light
from ldm.modules.image_degradation.degradation import (
    FULL,
    LIGHT,
    _steps,
    degradation_bsrgan_variant,
)
from ldm.modules.image_degradation.kernels import (
    blur,
    covariance,
    gaussian_kernel,
    shifted_kernel,
)
from ldm.modules.image_degradation.noise import add_gaussian_noise, add_jpeg_noise

RNG = np.random.default_rng


def smooth(side: int = 64) -> np.ndarray:
    """Return a picture without detail, uint8."""
    y, x = np.mgrid[:side, :side] / side
    picture = np.stack([x, y, 0.5 + 0 * x], -1) * 200 + 20
    return picture.astype(np.uint8)


def error(degrade, side=64, sf=4) -> float:
    """Return the mean distance from a well-made small picture, over 20 draws."""
    good = np.asarray(Image.fromarray(smooth(side)).resize((side // sf,) * 2, 4), float)
    outs = [degrade(smooth(side), sf=sf, rng=RNG(k))["image"] for k in range(20)]
    return float(np.mean([np.abs(out - good).mean() for out in outs]))


@pytest.mark.parametrize("degrade", [degradation_fn_bsr, degradation_fn_bsr_light])
@pytest.mark.parametrize("sf", [2, 3, 4, 8])
def test_the_result_is_a_small_picture_of_eight_bits(degrade, sf):
    for seed in range(6):
        out = degrade(image=smooth(48), sf=sf, rng=RNG(seed))["image"]
        assert (out.shape, out.dtype) == ((48 // sf, 48 // sf, 3), np.uint8)


def test_rows_and_columns_that_do_not_divide_are_cut_off():
    out = degradation_fn_bsr(smooth()[:50, :63], sf=4, rng=RNG(0))["image"]
    assert out.shape == (12, 15, 3)


def test_both_are_one_implementation_and_the_light_one_harms_less():
    assert 1 < error(degradation_fn_bsr_light) < 0.7 * error(degradation_fn_bsr)
    same = degradation_bsrgan_variant(smooth(), strength=LIGHT, rng=RNG(3))["image"]
    assert (same == degradation_fn_bsr_light(smooth(), rng=RNG(3))["image"]).all()


def test_the_numbers_are_the_references():
    assert FULL.turned_sizes == FULL.round_sizes == (7, 9, 11, 13, 15, 17, 19, 21, 23, 25)
    assert (FULL.noise, FULL.jpeg, FULL.resize_p, FULL.blurs) == ((2, 25), (30, 95), 0.75, 2)
    assert LIGHT.turned_sizes == tuple(range(5, 15)) and LIGHT.round_sizes == (5, 6, 7)
    assert (LIGHT.noise, LIGHT.jpeg, LIGHT.resize_p, LIGHT.blurs) == ((1, 2), (80, 95), 0.8, 1)


def test_the_names_are_where_compvis_has_them():
    for name in ("bsrgan", "bsrgan_light"):
        module = importlib.import_module(f"ldm.modules.image_degradation.{name}")
        out = module.degradation_bsrgan_variant(smooth(32), 4, None)["image"]
        assert out.shape == (8, 8, 3)


def test_choices_come_from_torchs_generator_where_no_other_is_given():
    def degraded():
        torch.manual_seed(11)
        return degradation_fn_bsr(smooth())["image"]

    assert (degraded() == degraded()).all()
    assert (degraded() != degradation_fn_bsr(smooth())["image"]).any()


def test_the_input_is_not_modified():
    x = smooth()
    degradation_fn_bsr(x, rng=RNG(0))
    assert (x == smooth()).all()


def test_the_final_size_is_made_after_the_random_one():
    steps = [_steps(4, (8, 8), FULL, RNG(seed)) for seed in range(200)]
    orders = set()
    for one in steps:
        assert len(one) == 6
        codes = [step.__code__.co_names for step in one]
        first = next(k for k, code in enumerate(codes) if "_downsample" in code)
        last = next(k for k, code in enumerate(codes) if "resize" in code)
        assert first < last
        orders.add((first, last))
    assert len(orders) == 15  # every pair of places out of six


@pytest.mark.parametrize("size", [5, 6, 25])
def test_a_kernel_has_the_covariance_it_was_asked_for(size):
    shape = covariance((1.2, 0.4), 0.7)
    kernel = gaussian_kernel(size, shape)
    offsets = np.arange(size) - (size - 1) / 2
    x, y = np.meshgrid(offsets, offsets)
    moments = [(kernel * a * b).sum() for a, b in ((x, x), (x, y), (y, y))]
    assert abs(kernel.sum() - 1) < 1e-12
    assert abs((kernel * x).sum()) < 1e-12
    # A kernel of five pixels cuts off the tails.
    assert np.abs(np.array(moments) - shape.ravel()[[0, 1, 3]]).max() < (0.2 if size < 7 else 1e-3)


@pytest.mark.parametrize("size", [5, 6])
def test_a_gaussian_without_width_is_still_a_kernel(size):
    kernel = gaussian_kernel(size, covariance((0.0, 0.0), 0.0))
    assert np.isfinite(kernel).all()
    assert abs(kernel.sum() - 1) < 1e-12


@pytest.mark.parametrize("sf", [2, 3, 4])
def test_a_shifted_kernel_has_its_centre_on_the_blocks(sf):
    kernel = shifted_kernel(gaussian_kernel(25, covariance((4.0, 4.0), 0.0)), sf)
    places = np.arange(25) - 12
    centre = [(kernel.sum(axis) * places).sum() for axis in (0, 1)]
    assert np.abs(np.array(centre) + (sf - 1) / 2).max() < 1e-3


@pytest.mark.parametrize("size", [5, 6, 25])
def test_blurring_is_scipys_convolution_with_mirrored_borders(size):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = RNG(0).random((33, 40, 3)).astype(np.float32)
    kernel = shifted_kernel(gaussian_kernel(size, covariance((3.0, 9.0), 0.5)), 3)
    theirs = ndimage.convolve(x, kernel[..., None], mode="mirror")
    assert np.abs(blur(x, kernel) - theirs).max() < 1e-5


def test_a_picture_smaller_than_the_kernel_is_blurred_too():
    kernel = gaussian_kernel(25, covariance((4.0, 4.0), 0.0))
    x = np.full((3, 5, 3), 0.25, np.float32)
    assert np.abs(blur(x, kernel) - 0.25).max() < 1e-6


def test_noise_has_its_level_and_each_of_its_kinds():
    grey = np.full((64, 64, 3), 0.5, np.float32)
    shared = 0
    for seed in range(60):
        noise = add_gaussian_noise(grey, (10, 10), RNG(seed)) - grey
        spread = noise.std() * 255
        same = np.abs(noise - noise[..., :1]).max() == 0
        shared += same
        assert spread < 13
        assert not same or abs(spread - 10) < 0.5
    assert 12 < shared < 36  # two fifths


def test_a_lower_jpeg_quality_loses_more():
    x = RNG(0).random((32, 32, 3)).astype(np.float32)
    losses = [np.abs(add_jpeg_noise(x, (q, q), RNG(0)) - x).mean() for q in (95, 60, 30)]
    assert losses == sorted(losses)
    assert losses[0] > 0

"""Learning rate multipliers: their corners, and that they never jump."""

from __future__ import annotations

import math

import pytest

from ldm.lr_scheduler import (
    LambdaLinearScheduler,
    LambdaWarmUpCosineScheduler,
    LambdaWarmUpCosineScheduler2,
)

CYCLES = {
    "warm_up_steps": [10, 5],
    "f_min": [0.1, 0.0],
    "f_max": [1.0, 0.5],
    "f_start": [0.0, 0.2],
    "cycle_lengths": [100, 50],
}


@pytest.fixture
def cosine():
    return LambdaWarmUpCosineScheduler(10, 0.1, 1.0, 0.01, 110)


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.01), (5, 0.505), (10, 1.0), (60, 0.55), (110, 0.1), (111, 0.1), (10_000, 0.1)],
)
def test_a_cosine_rises_in_a_line_falls_by_half_a_cosine_and_stays(cosine, step, factor):
    assert cosine(step) == cosine.schedule(step) == pytest.approx(factor)


def test_a_cosine_without_rise_begins_at_its_top():
    assert LambdaWarmUpCosineScheduler(0, 0.0, 1.0, 0.0, 10)(0) == 1.0


def test_a_cosine_never_jumps_and_falls_all_the_way(cosine):
    factors = [cosine(n) for n in range(120)]
    assert max(abs(a - b) for a, b in zip(factors, factors[1:], strict=False)) < 0.1
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.0), (10, 1.0), (55, 0.55), (100, 0.1), (101, 0.26), (105, 0.5), (150, 0.0), (999, 0.0)],
)
def test_cycles_follow_each_other_with_their_own_corners(step, factor):
    """A cycle owns its last step; after the last cycle its end is kept."""
    assert LambdaWarmUpCosineScheduler2(**CYCLES)(step) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("step", "factor"), [(5, 0.5), (10, 0.1 + 0.9 * 0.9), (50, 0.55), (100, 0.1), (999, 0.0)]
)
def test_a_line_falls_over_the_whole_cycle_as_in_the_reference(step, factor):
    assert LambdaLinearScheduler(**CYCLES)(step) == pytest.approx(factor)


def test_the_constant_of_stable_diffusion_is_constant_after_its_warm_up():
    """v1's schedule: a rise over 10,000 steps, then 1 in a cycle that never ends."""
    schedule = LambdaLinearScheduler([10000], [1.0], [1.0], [1e-6], [10000000000000])
    assert schedule(0) == pytest.approx(1e-6)
    assert schedule(5000) == pytest.approx(0.5, rel=1e-5)
    assert schedule(10000) == schedule(2_000_000) == pytest.approx(1.0)


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one value per cycle"):
        LambdaLinearScheduler(**{**CYCLES, "f_min": [0.1]})


def test_the_factor_is_logged_now_and_then(caplog):
    schedule = LambdaWarmUpCosineScheduler(0, 0.0, 1.0, 0.0, 10, verbosity_interval=5)
    with caplog.at_level("INFO", logger="ldm.lr_scheduler"):
        for n in range(10):
            schedule(n)
    assert [record.getMessage() for record in caplog.records] == [
        "step 0: learning rate factor 1",
        f"step 5: learning rate factor {0.5 * (1 + math.cos(math.pi / 2)):.6g}",
    ]

"""Noise levels: their relation to time, the grids of the k-samplers, and the weights of LMS."""

from __future__ import annotations

import numpy as np
import pytest

from ldm.errors import UserError
from ldm.modules.diffusionmodules.util import make_ddim_sampling_parameters
from ldm.process.schedules import diffusion_coefficients, make_beta_schedule
from ldm.process.sigmas import (
    SigmaSchedule,
    adams_bashforth,
    ancestral_split,
    beta_quantiles,
    karras_between,
    make_sigmas,
    vp_scales,
)
from ldm.settings import samplers

SPACINGS = [name for name, entry in samplers.SPACINGS.items() if entry.sigmas]
TABLES = diffusion_coefficients(make_beta_schedule("linear", 1000, 0.00085, 0.012))
CUMPROD = TABLES["alphas_cumprod"]
SCHEDULE = SigmaSchedule(CUMPROD)


# Sigma and time


def test_sigma_is_the_ratio_of_noise_to_signal_at_every_training_step():
    sigmas = SCHEDULE.sigma(np.arange(1000))
    assert np.allclose(sigmas, np.sqrt((1 - CUMPROD) / CUMPROD), rtol=1e-12)
    # The ends that k-diffusion and its users know of Stable Diffusion v1.
    assert sigmas[0] == pytest.approx(0.02917, abs=1e-5)
    assert sigmas[-1] == pytest.approx(14.6146, abs=1e-4)


def test_log_sigma_is_linear_between_training_steps():
    assert SCHEDULE.sigma(10.5) ** 2 == pytest.approx(SCHEDULE.sigma(10) * SCHEDULE.sigma(11))


def test_time_is_the_inverse_of_sigma_also_between_training_steps():
    times = np.linspace(0, 999, 4321)
    assert np.allclose(SCHEDULE.time(SCHEDULE.sigma(times)), times, rtol=0, atol=1e-9)


def test_sigmas_beyond_the_schedule_have_the_time_of_its_nearest_end():
    assert SCHEDULE.time([1e-4, 80.0]).tolist() == [0.0, 999.0]


def test_scales_of_a_sigma_have_it_for_their_ratio_and_unit_variance():
    sigmas = make_sigmas("karras", 30, SCHEDULE)
    a, s = vp_scales(sigmas)
    assert np.allclose(a**2 + s**2, 1) and np.allclose(s / a, sigmas)
    assert (a[0], s[0]) == (1.0, 0.0)


@pytest.mark.parametrize(
    "cumprod",
    [[0.9, 0.5, 0.0], [1.0, 0.5, 0.1], [0.9, 0.5, 0.5], [0.9, 0.5, 0.6], [0.9, float("nan"), 0.1]],
)
def test_a_schedule_whose_sigmas_end_or_do_not_grow_is_refused(cumprod):
    with pytest.raises(UserError, match="alphas_cumprod.*ddim"):
        SigmaSchedule(np.array(cumprod))


# Grids


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 3, 12, 37, 999, 1000])
def test_grids_take_exactly_the_steps_asked_from_the_largest_sigma_to_zero(spacing, steps):
    grid = make_sigmas(spacing, steps, SCHEDULE)
    assert grid.shape == (steps + 1,)
    assert grid[0] == 0 and (np.diff(grid) > 0).all()
    assert grid[-1] == pytest.approx(SCHEDULE.sigma(999))


@pytest.mark.parametrize("spacing", ["uniform", "linspace"])
def test_uniform_is_k_diffusions_even_in_unrounded_time(spacing):
    times = SCHEDULE.time(make_sigmas(spacing, 12, SCHEDULE)[1:])
    assert np.allclose(times, np.arange(12) * 999 / 11)


def test_trailing_leaves_out_the_first_training_step():
    times = SCHEDULE.time(make_sigmas("trailing", 4, SCHEDULE)[1:])
    assert np.allclose(times, [249, 499, 749, 999])


def test_karras_is_even_in_the_seventh_root_between_the_models_sigmas():
    grid = make_sigmas("karras", 12, SCHEDULE)[1:]
    roots = np.diff(grid ** (1 / 7))
    assert np.allclose(roots, roots[0])
    assert np.allclose(grid[[0, -1]], SCHEDULE.sigma(np.array([0, 999])))
    # It crowds the small sigmas: most of its steps lie below 1, where the pictures take shape.
    assert (grid < 1).sum() > (make_sigmas("uniform", 12, SCHEDULE)[1:] < 1).sum()


def test_exponential_is_even_in_log_sigma_between_the_models_sigmas():
    logs = np.log(make_sigmas("exponential", 12, SCHEDULE)[1:])
    assert np.allclose(np.diff(logs), np.diff(logs)[0])
    assert np.allclose(np.exp(logs[[0, -1]]), SCHEDULE.sigma(np.array([0, 999])))


def test_sgm_uniform_leaves_out_the_cleanest_of_even_times():
    times = SCHEDULE.time(make_sigmas("sgm_uniform", 4, SCHEDULE)[1:])
    assert np.allclose(times, 999 * np.array([1, 2, 3, 4]) / 4)


def test_ten_aligned_steps_are_the_published_ones():
    grid = make_sigmas("align_your_steps", 10, SCHEDULE)[1:][::-1]
    published = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152]
    assert np.allclose(grid, published, rtol=1e-2)
    # The same table as training steps.
    times = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24]
    assert np.allclose(SCHEDULE.time(grid), times, atol=2.5)


def test_other_counts_of_aligned_steps_lie_between_them():
    ten, twenty = (make_sigmas("align_your_steps", n, SCHEDULE)[1:][::-1] for n in (10, 20))
    assert np.allclose(twenty[::2], ten)
    assert np.allclose(twenty[1:-1:2] ** 2, ten[1:] * ten[:-1])


@pytest.mark.parametrize("steps", [1, 5, 20, 100])
def test_beta_has_the_quantiles_of_its_distribution(steps):
    scipy = pytest.importorskip("scipy.stats")
    shares = 1 - np.arange(steps) / steps
    expected = scipy.beta.ppf(shares, 0.6, 0.6)
    assert np.allclose(beta_quantiles(shares, 0.6), expected, atol=1e-7)
    times = SCHEDULE.time(make_sigmas("beta", steps, SCHEDULE)[1:][::-1])
    assert np.allclose(times, 999 * expected, atol=1e-3)


def test_sigmas_between_two_are_karrass_and_end_exactly_there():
    grid = karras_between(10, 0.1, 2.0)
    assert (grid[0], grid[-1]) == (2.0, 0.1)
    assert np.allclose(np.diff(grid ** (1 / 7)), np.diff(grid[:2] ** (1 / 7)))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_impossible_counts_name_the_range(spacing, steps):
    with pytest.raises(UserError, match=f"{steps} .*1 to 1000"):
        make_sigmas(spacing, steps, SCHEDULE)


def test_an_unknown_spacing_names_the_known_ones():
    with pytest.raises(UserError, match="'quad'.*karras"):
        make_sigmas("quad", 10, SCHEDULE)


# Ancestral steps


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_an_ancestral_step_adds_the_noise_that_it_took_too_much(eta):
    for sigma, sigma_next in [(14.6, 9.0), (1.0, 0.999), (0.3, 0.03)]:
        down, added = ancestral_split(sigma, sigma_next, eta)
        assert down**2 + added**2 == pytest.approx(sigma_next**2)
        assert 0 < down <= sigma_next and (added > 0) == (eta > 0)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ancestral_noise_is_ddims(eta):
    times = np.array([101, 301, 501])
    sigmas, _, prev = make_ddim_sampling_parameters(CUMPROD, times, eta)
    for k in (1, 2):
        _, added = ancestral_split(*SCHEDULE.sigma(times[[k, k - 1]]), eta)
        assert added * np.sqrt(prev[k]) == pytest.approx(sigmas[k])


def test_whole_ancestral_noise_is_that_of_ddpms_posterior():
    _, added = ancestral_split(*SCHEDULE.sigma(np.array([400, 399])), 1.0)
    assert added**2 * CUMPROD[399] == pytest.approx(TABLES["posterior_variance"][400])


def test_a_step_to_zero_adds_no_noise():
    assert ancestral_split(0.03, 0.0, 1.0) == (0.0, 0.0)


# Multistep weights


def test_even_steps_have_adams_and_bashforths_own_weights():
    for count, numerators, denominator in [
        (1, [1], 1),
        (2, [3, -1], 2),
        (3, [23, -16, 5], 12),
        (4, [55, -59, 37, -9], 24),
    ]:
        weights = adams_bashforth([10.0 + 0.5 * k for k in range(count)], 9.5)
        assert np.allclose(weights, -0.5 * np.array(numerators) / denominator)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_uneven_steps_integrate_every_polynomial_that_they_determine(count):
    nodes, end = np.array([2.0, 3.5, 3.9, 7.0])[:count], 0.7
    for degree in range(count):
        integral = (end ** (degree + 1) - nodes[0] ** (degree + 1)) / (degree + 1)
        assert adams_bashforth(nodes, end) @ nodes**degree == pytest.approx(integral)


def test_no_digits_are_lost_where_steps_are_short():
    nodes = 14.0 + 1e-4 * np.arange(4)
    weights = adams_bashforth(nodes, 14.0 - 1e-4)
    expected = -1e-4 * np.array([55, -59, 37, -9]) / 24
    assert np.allclose(weights, expected, rtol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_density_is_multiplied_in_before_the_integral(count):
    # u^k e^u from 0.3 to -0.9, by its primitives.
    nodes, end = np.array([0.3, 1.0, 1.4])[:count], -0.9
    primitives = [np.exp, lambda u: (u - 1) * np.exp(u), lambda u: (u**2 - 2 * u + 2) * np.exp(u)]
    for degree in range(count):
        integral = primitives[degree](end) - primitives[degree](nodes[0])
        found = adams_bashforth(nodes, end, np.exp) @ nodes**degree
        assert found == pytest.approx(integral, rel=1e-10)

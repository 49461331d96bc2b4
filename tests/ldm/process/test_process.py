"""The mathematics: schedules, spacings, conversions, weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldm.errors import UserError
from ldm.process import gaussian, prediction, weighting
from ldm.process.log_snr import ContinuousSchedule
from ldm.process.schedules import diffusion_coefficients, make_beta_schedule
from ldm.process.spacing import make_timesteps

KINDS = ("eps", "x0", "v")


@pytest.mark.parametrize("name", ["linear", "sqrt_linear", "sqrt", "cosine"])
def test_betas_are_probabilities_and_the_signal_falls(name):
    betas = make_beta_schedule(name, 1000)
    assert betas.dtype == np.float64 and betas.shape == (1000,)
    assert ((betas > 0) & (betas < 1)).all()
    assert (np.diff(np.cumprod(1 - betas)) < 0).all()


def test_linear_means_linear_in_the_root_of_beta():
    betas = make_beta_schedule("linear", 1000, 0.00085, 0.012)
    assert np.allclose(np.diff(np.sqrt(betas)), np.diff(np.sqrt(betas))[0])
    assert betas[0] == pytest.approx(0.00085) and betas[-1] == pytest.approx(0.012)


def test_an_unknown_schedule_names_the_known_ones():
    with pytest.raises(UserError, match="sqrt_linear"):
        make_beta_schedule("linaer", 10)


def test_the_posterior_agrees_with_bayes_rule():
    tables = diffusion_coefficients(make_beta_schedule("linear", 50))
    t = 20
    prior, likelihood = 1 - tables["alphas_cumprod"][t - 1], tables["betas"][t]
    precision = 1 / prior + (1 - tables["betas"][t]) / likelihood
    assert tables["posterior_variance"][t] == pytest.approx(1 / precision)


def test_the_reference_s_fifty_steps():
    assert make_timesteps("uniform", 50, 1000).tolist() == list(range(1, 1000, 20))


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 30, 999, 1000])
def test_exact_spacings_take_exactly_the_steps_asked_up_to_the_last(spacing, steps):
    timesteps = make_timesteps(spacing, steps, 1000)
    assert len(set(timesteps.tolist())) == steps
    assert (np.diff(timesteps) > 0).all() and timesteps[0] >= 0 and timesteps[-1] == 999


@pytest.mark.parametrize("spacing", ["uniform", "quad_unique"])
def test_every_count_gives_increasing_steps_inside_the_table(spacing):
    for steps in range(1, 1001):
        timesteps = make_timesteps(spacing, steps, 1000)
        assert (np.diff(timesteps) > 0).all() and timesteps.min() >= 1 and timesteps.max() <= 999


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_impossible_counts_name_the_range(steps):
    with pytest.raises(UserError, match="1 to 1000"):
        make_timesteps("uniform", steps, 1000)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_convert_to_eps_and_x0_exactly(kind):
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    a = torch.tensor(0.6, dtype=torch.float64)
    s = (1 - a**2).sqrt()
    x = a * x0 + s * eps
    out = prediction.target(x0, eps, a, s, kind)
    assert torch.allclose(prediction.to_eps(out, x, a, s, kind), eps)
    assert torch.allclose(prediction.to_x0(out, x, a, s, kind), x0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", KINDS)
def test_a_right_prediction_stays_right_when_it_is_converted(kind, wanted):
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 100, generator=generator, dtype=torch.float64)
    a, s = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    out = prediction.target(x0, eps, a, s, kind)
    converted = prediction.convert(out, a * x0 + s * eps, a, s, kind, wanted)
    assert torch.allclose(converted, prediction.target(x0, eps, a, s, wanted))


def test_the_variational_weight_of_eps_is_equation_12():
    tables = diffusion_coefficients(make_beta_schedule("linear", 100))
    weights = weighting.variational_weights(tables, "eps")
    t = 40
    beta, variance = tables["betas"][t], tables["posterior_variance"][t]
    expected = beta**2 / (2 * variance * (1 - beta) * (1 - tables["alphas_cumprod"][t]))
    assert weights[t] == pytest.approx(expected)
    assert np.isfinite(weights).all() and weights[0] == weights[1]


def test_the_variational_weight_of_x0_is_the_reference_s():
    tables = diffusion_coefficients(make_beta_schedule("linear", 1000))
    weights = weighting.variational_weights(tables, "x0")
    cumprod = tables["alphas_cumprod"]
    assert weights[500] == pytest.approx(0.5 * cumprod[500] ** 0.5 / (2 - cumprod[500]))
    assert weights[0] == weights[1]


def test_kl_to_the_standard_normal_is_the_general_formula():
    mean, logvar = torch.tensor([[0.3, -1.0]]), torch.tensor([[0.2, -0.7]])
    general = gaussian.kl_between_normals(mean, logvar, torch.zeros(1, 2), torch.zeros(1, 2))
    assert torch.allclose(gaussian.kl_standard_normal(mean, logvar), general.sum(1))


def test_continuous_time_meets_the_table_and_variances_sum_to_one():
    cumprod = diffusion_coefficients(make_beta_schedule("linear", 1000))["alphas_cumprod"]
    process = ContinuousSchedule(cumprod)
    assert np.allclose(process.alpha(process.times), np.sqrt(cumprod))
    times = np.linspace(0.001, 1, 77)
    assert np.allclose(process.alpha(times) ** 2 + process.sigma(times) ** 2, 1)
    assert (np.diff(process.lam(times)) < 0).all()
    assert process.model_time(1.0) == pytest.approx(999)


def test_the_posterior_s_mean_weighs_both_sides_by_their_precision():
    tables = diffusion_coefficients(make_beta_schedule("linear", 50))
    t = np.arange(1, 50)
    betas, before = tables["betas"][t], tables["alphas_cumprod"][t - 1]
    variance = tables["posterior_variance"][t]
    of_x0, of_x = tables["posterior_mean_coef1"][t], tables["posterior_mean_coef2"][t]
    assert np.allclose(of_x0, variance * np.sqrt(before) / (1 - before))
    assert np.allclose(of_x, variance * np.sqrt(1 - betas) / betas)


def test_the_logarithm_of_the_variance_is_cut_at_the_first_step_alone():
    tables = diffusion_coefficients(make_beta_schedule("linear", 50))
    variance, logs = tables["posterior_variance"], tables["posterior_log_variance_clipped"]
    assert variance[0] == 0 and logs[0] == pytest.approx(np.log(1e-20))
    assert np.array_equal(logs[1:], np.log(variance[1:]))


def test_quad_is_even_in_the_root_of_the_step_up_to_four_fifths_of_them():
    expected = [1, 10, 40, 89, 159, 247, 356, 484, 633, 801]
    assert make_timesteps("quad", 10, 1000).tolist() == expected


def test_quad_takes_as_many_steps_as_asked_and_repeats_some_at_the_clean_end():
    for steps in range(1, 1001):
        timesteps = make_timesteps("quad", steps, 1000)
        assert len(timesteps) == steps and (np.diff(timesteps) >= 0).all()
        assert timesteps.min() >= 1 and timesteps.max() <= 999
    assert make_timesteps("quad", 50, 1000)[:4].tolist() == [1, 1, 2, 3]


def test_continuous_time_is_found_back_from_the_noise_also_past_the_ends():
    cumprod = diffusion_coefficients(make_beta_schedule("linear", 1000))["alphas_cumprod"]
    process = ContinuousSchedule(cumprod)
    times = np.linspace(0.0005, 1.01, 333)
    assert np.allclose(process.time(process.lam(times)), times)

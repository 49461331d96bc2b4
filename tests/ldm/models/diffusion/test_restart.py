"""Restart: where it walks, that its noise fits, and what a few steps are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sigma_walks import MEAN, STD, from_the_datas_marginal, make, walked

from ldm.models.diffusion.restart import plan
from ldm.rng import PerImageNoise
from ldm.settings.samplers import samplers_for


@pytest.mark.parametrize("steps", [1, 2, 19])
def test_fewer_than_twenty_steps_are_heuns(steps):
    pairs = zip(
        walked(make("restart", steps, "karras")), walked(make("heun", steps, "karras")), strict=True
    )
    assert all(torch.equal(one, other) for one, other in pairs)


def test_the_repetitions_are_those_of_automatic1111():
    planned = {19: (0, 0), 20: (9, 1), 35: (9, 1), 36: (9, 2), 50: (12, 2)}
    assert {steps: plan(steps) for steps in planned} == planned


@pytest.mark.parametrize("steps", [20, 21, 35, 36, 50, 200])
@pytest.mark.parametrize("spacing", ["karras", "uniform", "align_your_steps"])
def test_it_takes_the_steps_asked_for_and_goes_up_as_often_as_planned(steps, spacing):
    sampler = make("restart", steps, spacing)
    begins, ends = sampler.begins[::-1], sampler.ends[::-1]  # in the order walked
    assert len(begins) == len(ends) == sampler.steps == steps
    assert (ends < begins).all() and ends[-1] == 0
    climbs = [k for k in range(1, steps) if begins[k] != ends[k - 1]]
    length, times = plan(steps)
    assert len(climbs) == times and (np.diff(climbs) == length).all()
    for k in climbs:
        # Sigmas of the grid that are nearest to 0.1 and 2.
        assert begins[k] > ends[k - 1] and 1 < begins[k] < 3.5 and 0.02 < ends[k - 1] < 0.2
    assert begins[climbs[-1] + length] == ends[climbs[0] - 1]  # on where the first way was left


def test_samples_have_the_mean_and_the_variance_of_the_data():
    sampler = make("restart", 50, "karras")
    out = walked(sampler, from_the_datas_marginal(sampler), noise=PerImageNoise(range(8)))[-1]
    assert out.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert out.std().item() == pytest.approx(STD, rel=0.025)


def test_noise_on_the_way_takes_errors_away():
    # A sample that is off at the beginning: Heun keeps the error, Restart forgets most of it.
    def off(name: str) -> float:
        sampler = make(name, 50, "karras")
        x = from_the_datas_marginal(sampler) * 1.3
        out = walked(sampler, x, noise=PerImageNoise(range(8)))[-1]
        return abs(out.std().item() - STD)

    assert off("restart") < 0.6 * off("heun")


def test_a_part_of_the_way_begins_with_the_noise_of_its_first_step():
    sampler = make("restart", 40, "karras")
    picture, noise = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
    for t in range(1, 41):
        sigma = sampler.begins[t - 1]
        noised = sampler.stochastic_encode(picture, t, noise=noise)
        expected = torch.full_like(noised, sigma / (1 + sigma**2) ** 0.5)
        torch.testing.assert_close(noised, expected)


def test_a_model_without_such_noise_is_walked_once():
    sampler = make("restart", 25, "karras")
    sampler.model.alphas_cumprod = torch.linspace(0.99999, 0.995, 1000)  # sigma below 0.1
    sampler.make_schedule(25)
    assert (np.diff(sampler.begins) > 0).all() and sampler.steps == 25


def test_it_takes_every_grid_of_noise_levels():
    assert "restart" in samplers_for("beta")

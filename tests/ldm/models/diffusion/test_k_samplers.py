"""The k-samplers: how fast they converge, what their noise does, and how they meet the others.

What every sampler promises (counts, batches, masks, guidance, inputs) is in
test_sampler_behaviour.py and test_oracle.py, for these as for all.
"""

from __future__ import annotations

import logging

import pytest
import torch
from oracle import GaussianModel
from sigma_walks import (
    MEAN,
    SHAPE,
    STD,
    SigmaModel,
    error,
    from_the_datas_marginal,
    make,
    order,
    start_noise,
    walked,
)

from ldm.errors import UserError
from ldm.models.diffusion.k_samplers import EulerAncestralSampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.rng import PerImageNoise
from ldm.settings.samplers import SAMPLERS, k_samplers

ANCESTRAL = ("euler_a", "dpm2_a")
GRIDS = ("uniform", "trailing", "karras")


# Order of convergence

FIRST, SECOND = [("euler", None), ("euler_a", 0.0)], [("dpm2", None), ("dpm2_a", 0.0)]


@pytest.mark.parametrize(("coarse", "fine"), [(40, 80), (80, 160)])
@pytest.mark.parametrize("spacing", ["uniform", "karras"])
@pytest.mark.parametrize(("name", "eta"), FIRST)
def test_euler_converges_with_first_order(name, eta, spacing, coarse, fine):
    assert order(name, spacing, eta, coarse=coarse, fine=fine) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize(("coarse", "fine"), [(40, 80), (80, 160)])
@pytest.mark.parametrize("spacing", ["uniform", "karras"])
def test_heun_converges_with_second_order(spacing, coarse, fine):
    assert order("heun", spacing, None, coarse=coarse, fine=fine) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(("coarse", "fine"), [(40, 80), (80, 160)])
@pytest.mark.parametrize(("name", "eta"), SECOND)
def test_dpm2_converges_with_second_order(name, eta, coarse, fine):
    # Karras's grid is smooth down to its end. In the even one sigma falls by 30 % in each of the
    # last steps, far from the small steps that an order is about: 1.6 to 1.8 is measured there.
    assert order(name, "karras", eta, coarse=coarse, fine=fine) == pytest.approx(2, abs=0.1)
    assert 1.5 < order(name, "uniform", eta, coarse=coarse, fine=fine) < 2.1


@pytest.mark.parametrize(("coarse", "fine"), [(20, 40), (40, 80), (80, 160)])
def test_lms_converges_nearly_with_the_fourth_order_of_its_formula(coarse, fine):
    # Its first step is Euler's, so in the end it must be of order 2. But it is taken where the
    # flow is all but straight (its curvature falls with sigma ** -3), and it does not show yet.
    assert 3 < order("lms", "karras", None, coarse=coarse, fine=fine) < 4


@pytest.mark.parametrize(
    ("name", "bound"), [("euler", 0.04), ("heun", 3e-3), ("dpm2", 2e-3), ("lms", 6e-4)]
)
def test_forty_steps_end_near_the_data(name, bound):
    sampler = make(name, 40, "karras")
    x = start_noise().double()
    clean = sampler.model.flow(x, 999, 0, mean=MEAN)
    # On to sigma 0, where a = 1: the data's deviation from their mean, as large as the flow's.
    a_bar = sampler.model.alpha_bar(torch.tensor([0.0]))
    spread = (a_bar * STD**2 + 1 - a_bar).sqrt()
    clean = MEAN + (clean - a_bar.sqrt() * MEAN) * STD / spread
    assert (walked(sampler, x)[-1] - clean).square().mean().sqrt().item() < bound


def test_the_better_method_is_nearer_for_the_same_number_of_model_calls():
    euler, heun, dpm2, lms = (
        error(name, steps, "karras")
        for name, steps in [("euler", 40), ("heun", 20), ("dpm2", 20), ("lms", 40)]
    )
    assert lms < dpm2 < heun < euler


# Noise


@pytest.mark.parametrize("name", ANCESTRAL)
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_samples_have_the_mean_and_the_variance_of_the_data(name, eta):
    sampler = make(name, 200 if name == "euler_a" else 60, "karras", eta=eta)
    x = from_the_datas_marginal(sampler)
    out = walked(sampler, x, noise=PerImageNoise(range(8)))[-1]
    # 32,768 numbers: the standard error is 0.4 %. Euler's steps are first-order: 6 % at 60.
    assert out.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert out.std().item() == pytest.approx(STD, rel=0.025)
    left_of_start = torch.corrcoef(torch.stack([out.flatten(), x.flatten()]))[0, 1]
    assert abs(left_of_start) < {0.5: 0.7, 1.0: 0.1}[eta]  # more than 0.999 without noise


@pytest.mark.parametrize(("noisy", "plain"), [("euler_a", "euler"), ("dpm2_a", "dpm2")])
@pytest.mark.parametrize("spacing", GRIDS)
def test_without_noise_an_ancestral_sampler_is_the_plain_one(noisy, plain, spacing):
    states = walked(make(noisy, 10, spacing, eta=0.0))
    for state, expected in zip(states, walked(make(plain, 10, spacing)), strict=True):
        torch.testing.assert_close(state, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ANCESTRAL)
def test_noise_comes_from_the_walks_source_alone(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = walked(make(name, 5), noise=PerImageNoise([7, 8]))[-1]
    assert torch.equal(torch.get_rng_state(), before)
    again = walked(make(name, 5), noise=PerImageNoise([7, 8]))[-1]
    other = walked(make(name, 5), noise=PerImageNoise([7, 9]))[-1]
    assert torch.equal(first, again)
    assert torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])


@pytest.mark.parametrize("name", ANCESTRAL)
def test_the_stream_moves_as_far_whatever_eta_is(name):
    ends = []
    for eta in (0.0, 1.0):
        torch.manual_seed(1)
        walked(make(name, 5, eta=eta))
        ends.append(torch.randn(3))
    assert torch.equal(*ends)


@pytest.mark.parametrize("name", ANCESTRAL)
def test_temperature_zero_takes_the_noise_out(name):
    cold = [walked(make(name, 5), temperature=0.0)[-1] for _ in range(2)]
    assert torch.equal(*cold)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_impossible_amounts_of_noise_are_refused(eta):
    with pytest.raises(UserError, match="eta .* from 0 to 1"):
        EulerAncestralSampler(SigmaModel(), eta=eta)


@pytest.mark.parametrize("name", k_samplers())
def test_ddims_eta_is_passed_over_and_that_is_said(name, caplog):
    sampler = make(name, 5)
    with caplog.at_level(logging.WARNING):
        sampler.make_schedule(5, ddim_eta=0.5)
    assert "ddim_eta 0.5 is ignored" in caplog.text


# Beside the other samplers


@pytest.mark.parametrize(("name", "eta"), [("euler", 0.0), ("euler_a", 1.0)])
def test_with_every_training_step_euler_is_ddim_down_to_the_clean_sample(name, eta):
    model = GaussianModel(MEAN, STD)
    ddim = make_sampler("ddim", model)
    ddim.make_schedule(10, ddim_eta=eta)
    with ddim.original_steps(True):
        expected = walked(ddim, noise=PerImageNoise([3, 4]))
    states = walked(make(name, 1000, "trailing", model=model), noise=PerImageNoise([3, 4]))
    for state, other in zip(states, expected, strict=True):
        # 1000 steps of float32 rounding, here over x / a, which begins 14 times as large as x.
        torch.testing.assert_close(state, other, rtol=0, atol=2e-4)


@pytest.mark.parametrize("spacing", GRIDS)
def test_heun_asks_at_both_ends_of_a_step_and_dpm2_in_the_middle_of_log_sigma(spacing):
    for name in ("heun", "dpm2"):
        sampler = make(name, 3, spacing)
        walked(sampler)
        low, mid, high = (sampler.time(i) for i in range(3))
        if name == "heun":
            expected = [high, mid, mid, low, low]
        else:
            sigma = sampler.levels.sigma
            halves = [(sigma(a) * sigma(b)) ** 0.5 for a, b in [(high, mid), (mid, low)]]
            first, second = map(float, map(sampler.levels.time, halves))
            expected = [high, first, mid, second, low]
        assert [t[0].item() for t in sampler.model.calls] == pytest.approx(expected, abs=1e-3)


# Part of the way, and masks


@pytest.mark.parametrize("name", k_samplers())
@pytest.mark.parametrize("spacing", GRIDS)
def test_pictures_are_noised_to_exactly_where_their_steps_begin(name, spacing):
    sampler = make(name, 10, spacing)
    picture, noise = start_noise(seed=4), start_noise()
    for t in range(1, 11):
        encoded = sampler.stochastic_encode(picture, t, noise=noise)
        torch.testing.assert_close(encoded, sampler.renoise(picture, t - 1, noise))
        a_bar = sampler.model.alpha_bar(torch.tensor([sampler.time(t - 1)])).float()
        expected = a_bar.sqrt() * picture + (1 - a_bar).sqrt() * noise
        torch.testing.assert_close(encoded, expected, rtol=0, atol=1e-5)
    assert torch.equal(sampler.stochastic_encode(picture, 0, noise=noise), picture)
    full = sampler.stochastic_encode(picture, 99, noise=noise)
    assert torch.equal(full, sampler.stochastic_encode(picture, 10, noise=noise))


@pytest.mark.parametrize("name", k_samplers())
@pytest.mark.parametrize("spacing", GRIDS)
def test_a_mask_keeps_what_it_covers(name, spacing):
    known = torch.full((2, *SHAPE), 5.0)  # more than six standard deviations from the data
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    out = walked(make(name, 50, spacing), mask=mask, x0=known, noise=PerImageNoise([1, 2]))[-1]
    # The last step begins at the mask's picture with the smallest noise on it. LMS is led there
    # by slopes of before, and the oracle's slopes at such a picture are poor; half of Restart's
    # steps lie further up, so that its last one is longer.
    assert (out[..., :2] - 5.0).abs().max() < (1.0 if name in ("lms", "restart") else 0.5)
    assert (out[..., 2:] - MEAN).abs().max() < 5 * STD


# The fork's faults: each of its samplers made its schedule elsewhere, or nowhere; most needed an
# unconditional half, left alphas_cumprod on another device, or ran on half-precision CUDA only.


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_makes_its_own_schedule_when_it_samples(name):
    sampler = make_sampler(name, GaussianModel(MEAN, STD))
    out, _ = sampler.sample(5, 2, SHAPE, verbose=False)
    assert out.isfinite().all() and sampler.steps == 5


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("options", [{}, {"unconditional_guidance_scale": 1.0}])
def test_every_sampler_runs_without_guidance(name, options):
    model = GaussianModel(MEAN, STD)
    sampler = make_sampler(name, model)
    cond = torch.zeros(2, 1, 1, 1)
    out, _ = sampler.sample(5, 2, SHAPE, cond, verbose=False, **options)
    assert out.isfinite().all() and {len(t) for t in model.calls} == {2}


class ElsewhereModel(GaussianModel):
    """A model on a device other than the schedule's, where mixing the two is an error."""

    device = torch.device("meta")

    def apply_model(self, x, t, cond):
        assert x.is_meta and t.is_meta
        return x * 0.5


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_every_sampler_works_where_the_model_is(name, kind):
    sampler = make_sampler(name, ElsewhereModel(parameterization=kind))
    out, _ = sampler.sample(5, 2, SHAPE, verbose=False)
    assert out.is_meta and out.dtype == torch.float32
    picture = torch.zeros(2, *SHAPE, device="meta")
    noised = sampler.stochastic_encode(picture, 3)
    assert noised.is_meta and sampler.decode(noised, None, 3).is_meta

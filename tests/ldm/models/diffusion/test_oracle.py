"""Samplers measured against data whose optimal model and probability flow are known exactly."""

from __future__ import annotations

import math

import pytest
import torch
from oracle import GaussianModel

from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.rng import PerImageNoise
from ldm.settings.samplers import SAMPLERS

SHAPE = (2, 4, 4)
MEAN, STD = 0.5, 0.7


def start_noise(batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(seed))


def error(name: str, steps: int, **options) -> float:
    """Return the sampler's RMS distance from the exact flow, from its own first time to step 0."""
    model = GaussianModel(MEAN, STD)
    x_T = start_noise()
    out, _ = make_sampler(name, model, **options).sample(steps, 2, SHAPE, x_T=x_T, verbose=False)
    exact = model.flow(x_T, model.calls[0][0], 0, mean=MEAN)
    return (out - exact).square().mean().sqrt().item()


def order(name: str, coarse: int, fine: int) -> float:
    """Return the exponent p of error ~ steps ** -p between two step counts."""
    return math.log(error(name, coarse) / error(name, fine)) / math.log(fine / coarse)


# The oracle itself


@pytest.mark.parametrize("t", [1, 300, 981])
def test_the_oracle_predicts_the_mean_of_the_noise_given_the_sample(t):
    model = GaussianModel(MEAN, STD)
    generator = torch.Generator().manual_seed(0)
    x0 = MEAN + STD * torch.randn(400_000, 1, generator=generator)
    eps = torch.randn(400_000, 1, generator=generator)
    x = model.q_sample(x0, torch.full((400_000,), t), noise=eps)
    residual = eps - model.apply_model(x, torch.full((400_000,), t), None)
    # The best predictor's residual is uncorrelated with anything computed from x.
    assert abs(residual.mean().item()) < 5e-3
    assert abs((residual * (x - x.mean())).mean().item()) < 5e-3


def test_the_oracles_three_predictions_are_one():
    x, t = start_noise(), torch.tensor([10, 700])
    eps, x0, v = (
        GaussianModel(MEAN, STD, kind).apply_model(x, t, None) for kind in ("eps", "x0", "v")
    )
    a_bar = GaussianModel().alpha_bar(t).reshape(-1, 1, 1, 1).float()
    torch.testing.assert_close(a_bar.sqrt() * x0 + (1 - a_bar).sqrt() * eps, x)
    torch.testing.assert_close(a_bar.sqrt() * eps - (1 - a_bar).sqrt() * x0, v)


def test_the_oracles_flow_follows_its_own_prediction():
    model = GaussianModel(MEAN, STD)
    x = start_noise().double()
    for t in range(999, 0, -1):  # DDIM with every training step, its Eq. 13
        now, after = model.alpha_bar(torch.tensor([t, t - 1]))
        eps = model.apply_model(x, torch.full((2,), t), None)
        x = x * (after / now).sqrt() + eps * ((1 - after).sqrt() - (after / now * (1 - now)).sqrt())
    exact = model.flow(start_noise(), 999, 0, mean=MEAN)
    assert (x - exact).abs().max() < 0.02


# Error and order


@pytest.mark.parametrize(("coarse", "fine"), [(25, 50), (50, 100), (100, 200)])
def test_ddim_converges_with_first_order(coarse, fine):
    assert 0.85 < order("ddim", coarse, fine) < 1.05


@pytest.mark.parametrize(("coarse", "fine"), [(25, 50), (50, 100), (100, 200)])
def test_dpm_solver_converges_with_an_order_well_above_one(coarse, fine):
    # Second order but for the first and the last step, which are first-order.
    assert 1.3 < order("dpm_solver", coarse, fine) < 1.8


@pytest.mark.parametrize(("steps", "share"), [(25, 0.1), (50, 0.05), (100, 0.02), (200, 0.03)])
def test_plms_is_far_nearer_to_the_flow_than_ddim(steps, share):
    # Its error changes sign on the way down, so an order cannot be asserted.
    assert error("plms", steps) < share * error("ddim", steps)


@pytest.mark.parametrize("steps", [100, 200])
def test_dpm_solver_is_nearer_to_the_flow_than_ddim(steps):
    assert error("dpm_solver", steps) < 0.6 * error("ddim", steps)


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_the_other_spacings_are_as_near_to_the_flow(spacing):
    ddim = error("ddim", 40, spacing=spacing)
    assert ddim < 1.5 * error("ddim", 40)
    assert error("plms", 40, spacing=spacing) < 0.2 * ddim


# Prediction types and guidance


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("kind", ["x0", "v"])
def test_every_prediction_type_gives_the_same_sample(name, kind):
    samples = [
        make_sampler(name, GaussianModel(MEAN, STD, parameterization)).sample(
            20, 2, SHAPE, x_T=start_noise(), noise=PerImageNoise([0, 1]), verbose=False
        )[0]
        for parameterization in ("eps", kind)
    ]
    torch.testing.assert_close(samples[0], samples[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_guidance_moves_the_mean_by_the_scale(name, kind):
    cond, uncond, scale = torch.full((2, 1, 1, 1), 0.4), torch.full((2, 1, 1, 1), 0.1), 5.0
    options = {"x_T": start_noise(), "verbose": False}
    guided, _ = make_sampler(name, GaussianModel(std=STD, parameterization=kind)).sample(
        20,
        2,
        SHAPE,
        cond,
        noise=PerImageNoise([0, 1]),
        unconditional_guidance_scale=scale,
        unconditional_conditioning=uncond,
        **options,
    )
    moved, _ = make_sampler(name, GaussianModel(std=STD)).sample(
        20, 2, SHAPE, uncond + scale * (cond - uncond), noise=PerImageNoise([0, 1]), **options
    )
    torch.testing.assert_close(guided, moved, rtol=0, atol=2e-4)


# Stochastic sampling


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_keeps_the_mean_and_the_variance_of_the_data_at_every_eta(eta):
    torch.manual_seed(0)
    model = GaussianModel(MEAN, STD)
    # Start from the data's own noisy marginal: a start of N(0, 1) has lost a little of the mean.
    x0 = MEAN + STD * torch.randn(16, 4, 32, 32)
    x_T = model.q_sample(x0, torch.full((16,), 997))
    out, _ = make_sampler("ddim", model).sample(
        250, 16, (4, 32, 32), eta=eta, x_T=x_T, verbose=False
    )
    # 65,536 numbers: the standard error is 0.3 %; 250 first-order steps are off by one per cent.
    assert out.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert out.std().item() == pytest.approx(STD, rel=0.02)


def test_ddim_with_noise_forgets_where_it_started_and_without_noise_it_does_not():
    model = GaussianModel(MEAN, STD)
    x_T = start_noise(2, seed=3)

    def correlation(eta: float) -> float:
        torch.manual_seed(0)
        out, _ = make_sampler("ddim", model).sample(50, 2, SHAPE, x_T=x_T, eta=eta, verbose=False)
        return torch.corrcoef(torch.stack([out.flatten(), x_T.flatten()]))[0, 1].item()

    assert correlation(0.0) > 0.999
    assert abs(correlation(1.0)) < 0.5

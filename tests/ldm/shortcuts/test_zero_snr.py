"""A schedule that ends in pure noise: the paper's, diffusers', and walks from there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracle import GaussianModel

from ldm.errors import UserError
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.process.schedules import make_beta_schedule, with_zero_end
from ldm.shortcuts.zero_snr import ZeroTerminalSnr


class Rescaled(GaussianModel):
    """The oracle, trained under the rescaled schedule."""

    def alpha_bar(self, t):
        return torch.from_numpy(with_zero_end(self.alphas_cumprod.double().numpy()))[t.long()]


def test_the_end_is_zero_the_beginning_stays_and_it_falls():
    cumprod = np.cumprod(1 - make_beta_schedule("linear", 1000, 0.00085, 0.012))
    found = with_zero_end(cumprod)
    assert found[-1] == 0.0 and found[0] == pytest.approx(cumprod[0], rel=1e-12)
    assert (np.diff(found) < 0).all()


def test_the_betas_are_diffusers():
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    model = GaussianModel(parameterization="v")
    theirs = rescale_zero_terminal_snr(model.betas.double())
    view = ZeroTerminalSnr(model)
    assert torch.allclose(view.betas.double(), theirs, atol=1e-5)
    assert torch.allclose(view.alphas_cumprod.double(), (1 - theirs).cumprod(0), atol=1e-5)


def test_all_but_the_schedule_is_the_models_own():
    model = GaussianModel(parameterization="v")
    view = ZeroTerminalSnr(model)
    assert view.parameterization == "v" and view.std == model.std
    assert float(model.alphas_cumprod[-1]) > 0 and float(view.alphas_cumprod[-1]) == 0
    x0, noise = torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 3.0)
    t = torch.tensor([0, 999])
    noised = view.q_sample(x0, t, noise)
    assert torch.equal(noised[1], noise[1]) and float(noised[0].mean()) < 1.2


def walk(model, steps, scale=1.0, uncond=None):
    sampler = make_sampler("ddim", model, spacing="trailing")
    sampler.make_schedule(steps, verbose=False)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    states = sampler.walk(
        x,
        torch.tensor(2.0),
        unconditional_guidance_scale=scale,
        unconditional_conditioning=uncond,
    )
    return x, list(states)


def test_a_walk_from_pure_noise_meets_the_data_of_the_oracle():
    """Data of another mean than 0: a walk that takes noise for a faint picture misses it."""
    model = Rescaled(std=0.5, parameterization="v")
    x, states = walk(ZeroTerminalSnr(model), 200)
    assert float(states[0].x0.sub(2.0).abs().max()) < 1e-5  # v = -E[x0], the mean of all data
    assert torch.equal(states[0].eps, x)
    found = states[-1].x
    assert float(found.mean()) == pytest.approx(2.0 + 0.5 * float(x.mean()), abs=0.02)
    assert float((found - (2.0 + 0.5 * x)).abs().max()) < 0.1


def test_the_first_steps_are_diffusers_ddims():
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=False,
        clip_sample=False,
    )
    theirs.set_timesteps(10)
    model = Rescaled(std=0.5, parameterization="v")
    x, states = walk(ZeroTerminalSnr(model), 10)
    for state, t in zip(states, theirs.timesteps, strict=True):
        out = model.apply_model(x, torch.full((4,), int(t)), torch.tensor(2.0))
        x = theirs.step(out, int(t), x).prev_sample
        assert int(t) == state.t and torch.allclose(state.x, x, atol=1e-5)


@pytest.mark.parametrize("kind", ["eps", "x0"])
def test_a_model_of_another_prediction_is_refused_with_the_reason(kind):
    with pytest.raises(UserError, match=rf"predicts {kind}; expected one that predicts v: in pure"):
        ZeroTerminalSnr(GaussianModel(parameterization=kind))

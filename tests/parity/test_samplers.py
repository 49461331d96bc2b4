"""Our samplers take diffusers' trajectories, every step of them, guidance included."""

from __future__ import annotations

import pytest
import torch
from parity.peers import as_eps_model, relative_error, unet_twins

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.plms import PLMSSampler

SCALE = 7.5
SCHEDULE = {
    "beta_schedule": "scaled_linear",  # which CompVis calls "linear"
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


@pytest.fixture(scope="module")
def unets():
    return unet_twins()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def their_states(unet, scheduler, steps, x, cond, uncond):
    """Run diffusers' loop and return x after every call of the model."""
    scheduler.set_timesteps(steps)
    states = []
    for t in scheduler.timesteps:
        context = torch.cat([uncond, cond])
        eps_u, eps_c = unet(torch.cat([x, x]), t, encoder_hidden_states=context).sample.chunk(2)
        x = scheduler.step(eps_u + SCALE * (eps_c - eps_u), t, x).prev_sample
        states.append(x)
    return states


@torch.no_grad()
def our_states(sampler, steps, x, cond, uncond):
    sampler.make_schedule(steps, ddim_eta=0.0, verbose=False)
    walk = sampler.walk(
        x, cond, unconditional_guidance_scale=SCALE, unconditional_conditioning=uncond
    )
    return [state.x for state in walk]


@pytest.mark.parametrize("steps", [5, 10])
def test_ddim_equals_diffusers_at_every_step(unets, steps):
    diffusers = pytest.importorskip("diffusers")
    ours, theirs = unets
    start = normal(1, 4, 8, 8), normal(1, 77, 64, seed=1), normal(1, 77, 64, seed=2)
    scheduler = diffusers.DDIMScheduler(clip_sample=False, **SCHEDULE)
    expected = their_states(theirs, scheduler, steps, *start)
    states = our_states(DDIMSampler(as_eps_model(ours)), steps, *start)
    assert len(states) == len(expected) == steps
    # diffusers builds its schedule in float32, this project in float64: 9e-7 apart.
    assert max(map(relative_error, states, expected)) < 1e-4


@pytest.mark.parametrize("steps", [5, 10])
def test_plms_equals_diffusers_pndm_at_every_step(unets, steps):
    diffusers = pytest.importorskip("diffusers")
    ours, theirs = unets
    start = normal(1, 4, 8, 8), normal(1, 77, 64, seed=1), normal(1, 77, 64, seed=2)
    scheduler = diffusers.PNDMScheduler(skip_prk_steps=True, **SCHEDULE)
    expected = their_states(theirs, scheduler, steps, *start)
    states = our_states(PLMSSampler(as_eps_model(ours)), steps, *start)
    # Its first two calls make one step: the state between them is only a look ahead.
    assert len(states) == len(expected) - 1 == steps
    assert max(map(relative_error, states, expected[1:])) < 1e-4

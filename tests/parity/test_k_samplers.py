"""Our k-samplers take diffusers' trajectories, on the same sigmas, guidance included."""

from __future__ import annotations

import pytest
import torch
from parity.peers import as_eps_model, relative_error, unet_twins

from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.rng import PerImageNoise

# diffusers on a NumPy that is newer than it.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

SCALE, SEED = 7.5, 5
# 9 divides 999: k-diffusion's even times are whole numbers then. Between them diffusers takes
# sigma, not its logarithm, to be linear in time.
STEPS = 10
PEERS = {
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpm2": "KDPM2DiscreteScheduler",
    "dpm2_a": "KDPM2AncestralDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
}
# Those of diffusers that know Karras's sigmas and do not round the times that belong to them.
WITH_KARRAS = ("euler", "lms")
CASES = [(name, "linspace") for name in PEERS] + [(name, "karras") for name in WITH_KARRAS]


@pytest.fixture(scope="module")
def unets():
    return unet_twins()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def their_states(unet, scheduler, x, cond, uncond):
    """Run diffusers' loop and return its samples, x0 + sigma eps, after every step."""
    scheduler.set_timesteps(STEPS)
    noise = {"generator": torch.Generator().manual_seed(SEED)}
    noise = noise if "Ancestral" in type(scheduler).__name__ else {}
    y = x * (1 + scheduler.sigmas[0] ** 2) ** 0.5
    states = []
    for t in scheduler.timesteps:
        x_in = scheduler.scale_model_input(y, t).repeat(2, 1, 1, 1)
        context = torch.cat([uncond, cond])
        eps_u, eps_c = unet(x_in, t, encoder_hidden_states=context).sample.chunk(2)
        y = scheduler.step(eps_u + SCALE * (eps_c - eps_u), t, y, **noise).prev_sample
        states.append(y)
    if len(states) == 2 * STEPS - 1:  # every other one is a look ahead, but for the last
        states = [*states[1:-1:2], states[-1]]
    return states


@pytest.mark.parametrize(("name", "spacing"), CASES)
def test_k_samplers_equal_diffusers_at_every_step(unets, name, spacing):
    diffusers = pytest.importorskip("diffusers")
    if name == "lms":
        pytest.importorskip("scipy")
    ours, theirs = unets
    x, cond, uncond = normal(1, 4, 8, 8), normal(1, 77, 64, seed=1), normal(1, 77, 64, seed=2)
    karras = {"use_karras_sigmas": True} if spacing == "karras" else {}
    scheduler = getattr(diffusers, PEERS[name])(
        beta_schedule="scaled_linear",  # which CompVis calls "linear"
        beta_start=0.00085,
        beta_end=0.012,
        timestep_spacing="linspace",
        **karras,
    )
    expected = their_states(theirs, scheduler, x, cond, uncond)
    sampler = make_sampler(name, as_eps_model(ours), spacing=spacing)
    sampler.make_schedule(STEPS)
    walk = sampler.walk(
        x,
        cond,
        unconditional_guidance_scale=SCALE,
        unconditional_conditioning=uncond,
        noise=PerImageNoise([SEED]),
    )
    states = [state.x for state in walk]
    assert len(states) == len(expected) == STEPS
    sigmas = torch.from_numpy(sampler.sigmas[:-1].copy()).flip(0)  # where the steps end
    for state, y, sigma in zip(states, expected, sigmas, strict=True):
        # diffusers builds its schedule in float32, this project in float64: 9e-7 apart, from
        # which the first steps make 2e-6 to 5e-6 and the later ones no more.
        assert relative_error(state, y / (1 + sigma.float() ** 2) ** 0.5) < 3e-5

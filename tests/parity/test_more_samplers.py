"""DPM++, UniPC, DEIS, TCD and DDPM take diffusers' or k-diffusion's steps on random models of eps.

The models look at samples alone: diffusers rounds the times of some grids, and what it tells a
model then differs, while its steps do not.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracle import GaussianModel

from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.models.diffusion.unipc import UniPCSampler
from ldm.rng import PerImageNoise
from ldm.settings.samplers import SAMPLERS

# diffusers on a NumPy that is newer than it.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

SHAPE, STEPS = (2, 4, 4), 18
SCHEDULE = {
    "beta_schedule": "scaled_linear",  # which CompVis calls "linear"
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
}
NEAR = 1e-5  # of numbers around 1; schedules built in float32 and float64 are 9e-7 apart


class RandomModel(GaussianModel):
    """Predicts an eps that a random matrix makes of the sample."""

    def __init__(self) -> None:
        super().__init__()
        numbers = math.prod(SHAPE)
        generator = torch.Generator().manual_seed(11)
        self.matrix = torch.randn(numbers, numbers, generator=generator) / numbers**0.5

    def apply_model(self, x, t, cond):  # noqa: ARG002 - the interface
        self.calls.append(t.clone())
        flat = x.float().flatten(1)
        return (0.6 * flat + 0.4 * torch.tanh(flat @ self.matrix)).reshape(x.shape).to(x.dtype)


def start() -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def ours(name, spacing="karras", steps=STEPS, *, sampler=None, eta=0.0, noise=None):
    """Return the sampler and its samples over a (x0 + sigma eps), from the start on."""
    sampler = sampler or make_sampler(name, RandomModel(), spacing=spacing)
    sampler.make_schedule(steps, ddim_eta=eta)
    walk = sampler.walk(start(), noise=noise or PerImageNoise([3, 4]))
    states = [state.x for state in walk]
    if not SAMPLERS[name].karras:
        return sampler, states
    ends = torch.tensor(np.append(sampler.begins[-2::-1], 0.0)).float()
    return sampler, [x * (1 + sigma**2) ** 0.5 for x, sigma in zip(states, ends, strict=True)]


def theirs(scheduler):
    """Return diffusers' samples over a after every step, from our start."""
    model, x, states = RandomModel(), start(), []
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:
        x = scheduler.step(model.apply_model(x, t.expand(2), None), t, x).prev_sample
        states.append(x * (1 + float(scheduler.sigmas[scheduler.step_index]) ** 2) ** 0.5)
    return states


def assert_alike(states, expected, count=STEPS):
    assert len(states) == len(expected)
    for k, (one, other) in enumerate(zip(states[:count], expected[:count], strict=True)):
        scale = other.abs().max().clamp(min=1)
        assert (one - other).abs().max() / scale < NEAR, k


def scheduler_of(name, **options):
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("scipy")
    grid = {"use_karras_sigmas": True, "final_sigmas_type": "zero"}
    known = {key: value for key, value in {**grid, **options}.items() if value is not None}
    return getattr(diffusers, name)(**SCHEDULE, **known)


@pytest.fixture
def same_noise(monkeypatch):
    """Let a module of diffusers draw what our walks do."""

    def patch(module) -> None:
        noise = PerImageNoise([3, 4])
        draw = lambda shape, **_: noise.randn(shape)  # noqa: E731
        monkeypatch.setattr(module, "randn_tensor", draw)

    return patch


# Beside diffusers


@pytest.mark.parametrize("grid", ["karras", "exponential"])
def test_dpmpp_2m_is_diffusers_multistep_solver(grid):
    options = {"use_karras_sigmas": False, f"use_{grid}_sigmas": True}
    peer = scheduler_of("DPMSolverMultistepScheduler", **options)
    assert_alike(ours("dpmpp_2m", grid)[1], theirs(peer))


def test_dpmpp_3m_is_diffusers_solver_of_order_3():
    peer = scheduler_of("DPMSolverMultistepScheduler", solver_order=3, solver_type="heun")
    # Their last step but one is of order 3 too, from 15 steps on.
    assert_alike(ours("dpmpp_3m")[1], theirs(peer))


@pytest.mark.parametrize(
    ("name", "form"), [("dpmpp_2m_sde", "midpoint"), ("dpmpp_2m_sde_heun", "heun")]
)
def test_2m_with_noise_is_diffusers_on_the_same_noise(name, form, same_noise):
    from diffusers.schedulers import scheduling_dpmsolver_multistep

    options = {"algorithm_type": "sde-dpmsolver++", "solver_type": form}
    peer = scheduler_of("DPMSolverMultistepScheduler", **options)
    same_noise(scheduling_dpmsolver_multistep)
    assert_alike(ours(name)[1], theirs(peer))


@pytest.mark.parametrize(("order", "variant"), [(2, "bh1"), (2, "bh2"), (3, "bh1"), (3, "bh2")])
def test_unipc_is_diffusers_in_both_variants_and_orders(order, variant):
    peer = scheduler_of("UniPCMultistepScheduler", solver_order=order, solver_type=variant)
    sampler = UniPCSampler(RandomModel(), spacing="karras", order=order, variant=variant)
    states = ours("unipc", sampler=sampler)[1]
    # diffusers' last step is 0 / 0 for bh1, and at order 3 its last but one is of order 2.
    assert_alike(states, theirs(peer), STEPS - (2 if order == 3 else 1))


def test_deis_is_diffusers_of_order_3_down_to_the_smallest_sigma():
    peer = scheduler_of("DEISMultistepScheduler", solver_order=3, final_sigmas_type=None)
    assert_alike(ours("deis")[1], theirs(peer), STEPS - 1)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_tcd_is_diffusers_on_the_same_noise(steps, gamma, same_noise):
    from diffusers import TCDScheduler
    from diffusers.schedulers import scheduling_tcd

    # Without gamma diffusers draws nothing, and the walk's draws do not matter.
    same_noise(scheduling_tcd)
    peer, model = TCDScheduler(**SCHEDULE), RandomModel()
    peer.set_timesteps(steps)
    x, states = start(), ours("tcd", "uniform", steps, eta=gamma)[1]
    for t, state in zip(peer.timesteps, states, strict=True):
        x = peer.step(model.apply_model(x, t.expand(2), None), t, x, eta=gamma).prev_sample
        torch.testing.assert_close(state, x, rtol=0, atol=2e-5)


def test_ddpm_is_diffusers_but_for_the_noise_of_the_last_step(same_noise):
    from diffusers import DDPMScheduler
    from diffusers.schedulers import scheduling_ddpm

    same_noise(scheduling_ddpm)
    peer = DDPMScheduler(**SCHEDULE, clip_sample=False, timestep_spacing="leading", steps_offset=1)
    peer.set_timesteps(20)
    model, x, states = RandomModel(), start(), ours("ddpm", "uniform", 20)[1]
    for t, state in list(zip(peer.timesteps, states, strict=True))[:-1]:
        x = peer.step(model.apply_model(x, t.expand(2), None), t, x).prev_sample
        assert (state - x).abs().max() / x.abs().max() < NEAR


# Beside k-diffusion's formulas, over lambda = -log sigma


class ByFormula:
    """What the formulas are made of: the model's x0 at y, and the walk's noise."""

    def __init__(self, sampler):
        self.model, self.source = RandomModel(), PerImageNoise([3, 4])
        self.sigmas = torch.tensor(np.append(sampler.begins[::-1], 0.0))
        self.y = start().double() * (1 + self.sigmas[0] ** 2) ** 0.5

    def x0(self, y, sigma):
        x = (y / (1 + sigma**2) ** 0.5).float()
        return y - sigma * self.model.apply_model(x, torch.zeros(2), None).double()

    def noise(self):
        return self.source.randn((2, *SHAPE)).double()

    def ancestral(self, sigma, sigma_next):
        up = (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5
        return (sigma_next**2 - up**2) ** 0.5, up


def exponential(y, x0, sigma, sigma_next):
    h = (sigma / sigma_next).log()
    return (sigma_next / sigma) * y - torch.expm1(-h) * x0


def by_2s_a(parts, sigma, sigma_next, _):
    down, up = parts.ancestral(sigma, sigma_next)
    x0 = parts.x0(parts.y, sigma)
    middle = (0.5 * (sigma.log() + down.log())).exp()
    there = exponential(parts.y, x0, sigma, middle)
    return exponential(parts.y, parts.x0(there, middle), sigma, down) + up * parts.noise()


def by_sde(parts, sigma, sigma_next, _):
    x0, first, second = parts.x0(parts.y, sigma), parts.noise(), parts.noise()
    middle = (0.5 * (sigma.log() + sigma_next.log())).exp()
    down, up = parts.ancestral(sigma, middle)
    there = exponential(parts.y, x0, sigma, down) + up * first
    down, up = parts.ancestral(sigma, sigma_next)
    # A Brownian path at sigma has moved by these since ``sigma``; a draw is per root of a length.
    path = (sigma - middle) ** 0.5 * first + (middle - sigma_next) ** 0.5 * second
    end = exponential(parts.y, parts.x0(there, middle), sigma, down)
    return end + up * path / (sigma - sigma_next) ** 0.5


def by_3m_sde(parts, sigma, sigma_next, past):
    h, x0 = (sigma / sigma_next).log(), parts.x0(parts.y, sigma)
    past.insert(0, (-sigma.log(), x0))
    y = torch.exp(-2 * h) * parts.y - torch.expm1(-2 * h) * x0
    # The polynomial through the estimates, by its Taylor series at the newest.
    if len(past) > 1:
        slope = (x0 - past[1][1]) / (past[0][0] - past[1][0])
        bend = 0.0
        if len(past) > 2:
            before = (past[1][1] - past[2][1]) / (past[1][0] - past[2][0])
            bend = (slope - before) / (past[0][0] - past[2][0])
            slope = slope + bend * (past[0][0] - past[1][0])
        phi_2 = torch.expm1(-2 * h) / (2 * h) + 1
        y = y + phi_2 * slope * h + (0.5 - phi_2 / (2 * h)) * bend * h**2
    return y + sigma_next * (-torch.expm1(-2 * h)) ** 0.5 * parts.noise()


@pytest.mark.parametrize("spacing", ["karras", "uniform", "exponential", "align_your_steps"])
@pytest.mark.parametrize(
    ("name", "formula"),
    [("dpmpp_2s_a", by_2s_a), ("dpmpp_sde", by_sde), ("dpmpp_3m_sde", by_3m_sde)],
)
def test_the_others_with_noise_are_k_diffusions_formulas(name, formula, spacing):
    sampler, states = ours(name, spacing)
    parts, expected, past = ByFormula(sampler), [], []
    for sigma, sigma_next in zip(parts.sigmas, parts.sigmas[1:], strict=False):
        last = sigma_next == 0
        parts.y = parts.x0(parts.y, sigma) if last else formula(parts, sigma, sigma_next, past)
        expected.append(parts.y.float())
    assert_alike(states, expected)

"""Any one of the sampler files can be another's with the reference's names: the rest go on working.

The stand-ins have the reference's signatures and no more than its names.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from oracle import GaussianModel

from ldm.modules.diffusionmodules import util
from ldm.settings.samplers import SAMPLERS

SHAPE = (2, 4, 4)
DIFFUSION = "ldm.models.diffusion"
UTIL = "ldm.modules.diffusionmodules.util"
RELOADED = [
    *(f"{DIFFUSION}.dpm_solver{end}" for end in ("", ".sampler", ".dpm_solver", ".noise_model")),
    *(f"{DIFFUSION}.dpm_solver.{end}" for end in ("noise_schedule", "solver_steps")),
    *(f"{DIFFUSION}.{name}" for name in ("ddim", "plms", "ancestral", "k_samplers", "k_denoiser")),
    *(f"{DIFFUSION}.{name}" for name in ("sampler", "discrete_sampler", "discrete_schedule")),
]


def make_ddim_timesteps(ddim_discr_method, num_ddim_timesteps, num_ddpm_timesteps, verbose=True):
    assert ddim_discr_method == "uniform"
    return np.arange(0, num_ddpm_timesteps, num_ddpm_timesteps // num_ddim_timesteps) + 1


def make_ddim_sampling_parameters(alphacums, ddim_timesteps, eta, verbose=True):
    alphas = alphacums[ddim_timesteps]
    before = np.asarray([alphacums[0], *alphacums[ddim_timesteps[:-1]].tolist()], dtype=np.float64)
    sigmas = eta * torch.sqrt(
        (1 - torch.tensor(before)) / (1 - alphas) * (1 - alphas / torch.tensor(before))
    )
    return sigmas, alphas, before


def noise_like(shape, device, repeat=False):
    return torch.randn(shape, device=device)


class StandIn:
    """A sampler with the reference's methods, that takes no steps."""

    def __init__(self, model, schedule="linear", **kwargs):
        self.model, self.schedule = model, schedule

    def make_schedule(self, ddim_num_steps, ddim_discretize="uniform", ddim_eta=0.0, verbose=True):
        self.ddim_timesteps = make_ddim_timesteps(ddim_discretize, ddim_num_steps, 1000)

    def sample(self, S, batch_size, shape, conditioning=None, **kwargs):
        return torch.zeros(batch_size, *shape), {}


class StandInSchedule:
    def __init__(self, schedule="discrete", betas=None, alphas_cumprod=None):
        self.schedule, self.total_N, self.T = schedule, 1000, 1.0


def model_wrapper(model, noise_schedule, model_type="noise", model_kwargs=None, **kwargs):
    return model


class StandInSolver:
    def __init__(self, model_fn, noise_schedule, predict_x0=False, thresholding=False, max_val=1.0):
        self.model_fn = model_fn

    def sample(self, x, steps=20, **kwargs):
        return x


HELPERS = {
    "make_ddim_timesteps": make_ddim_timesteps,
    "make_ddim_sampling_parameters": make_ddim_sampling_parameters,
    "noise_like": noise_like,
    "extract_into_tensor": util.extract_into_tensor,
}
SOLVER = {
    "NoiseScheduleVP": StandInSchedule,
    "model_wrapper": model_wrapper,
    "DPM_Solver": StandInSolver,
}
STAND_INS = {
    f"{DIFFUSION}.ddim": {"DDIMSampler": StandIn, **HELPERS},
    f"{DIFFUSION}.plms": {"PLMSSampler": StandIn, **HELPERS},
    f"{DIFFUSION}.dpm_solver.sampler": {"DPMSolverSampler": StandIn, **SOLVER},
    f"{DIFFUSION}.dpm_solver.dpm_solver": SOLVER,
    UTIL: {**HELPERS, "make_beta_schedule": util.make_beta_schedule},
}


def parent_of(name: str) -> tuple[ModuleType, str]:
    package, _, last = name.rpartition(".")
    return importlib.import_module(package), last


@pytest.fixture
def put(monkeypatch):
    """Put a stand-in in a module's place, with all samplers imported anew around it."""
    for name in (*RELOADED, UTIL):
        importlib.import_module(name)  # so that what is there now comes back after the test
        monkeypatch.setattr(*parent_of(name), sys.modules[name])
    for name in (*RELOADED, UTIL):
        monkeypatch.setitem(sys.modules, name, sys.modules[name])

    def put(name: str) -> None:
        for each in RELOADED:
            del sys.modules[each]
        module = ModuleType(name)
        vars(module).update(STAND_INS[name])
        sys.modules[name] = module
        setattr(*parent_of(name), module)

    return put


@pytest.mark.parametrize("name", STAND_INS)
def test_the_other_samplers_are_as_they_were(name, put):
    def draw(sampler: str) -> torch.Tensor:
        module, _, kind = SAMPLERS[sampler].target.rpartition(".")
        base = getattr(importlib.import_module(module), kind)
        x_T = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(1)
        return base(GaussianModel(0.3)).sample(5, 2, SHAPE, x_T=x_T, verbose=False)[0]

    expected = {sampler: draw(sampler) for sampler in SAMPLERS}
    put(name)
    for sampler, samples in expected.items():
        address = SAMPLERS[sampler].target.rpartition(".")[0]
        if address == name or (sampler == "dpm_solver" and name.endswith("dpm_solver.sampler")):
            samples = torch.zeros(2, *SHAPE)
        torch.testing.assert_close(draw(sampler), samples, rtol=0, atol=1e-5)


class OwnSampler:
    """A fork's whole sampler on our parts, after the fashion of the one beside ControlNet."""

    def __init__(self, model, schedule="linear", **kwargs):
        self.model = model
        self.ddpm_num_timesteps = model.num_timesteps

    def make_schedule(self, ddim_num_steps, ddim_eta=0.0):
        self.ddim_timesteps = util.make_ddim_timesteps(
            ddim_discr_method="uniform",
            num_ddim_timesteps=ddim_num_steps,
            num_ddpm_timesteps=self.ddpm_num_timesteps,
            verbose=False,
        )
        self.ddim_sigmas, self.ddim_alphas, self.ddim_alphas_prev = (
            util.make_ddim_sampling_parameters(
                alphacums=self.model.alphas_cumprod.cpu(),
                ddim_timesteps=self.ddim_timesteps,
                eta=ddim_eta,
                verbose=False,
            )
        )
        self.ddim_sqrt_one_minus_alphas = np.sqrt(1.0 - self.ddim_alphas)

    @torch.no_grad()
    def sample(self, S, batch_size, shape, conditioning, x_T, eta, scale, uncond):
        self.make_schedule(S, eta)
        x = x_T
        for index in reversed(range(len(self.ddim_timesteps))):
            t = torch.full((batch_size,), int(self.ddim_timesteps[index]), dtype=torch.long)
            guided = self.model.apply_model(x, t, conditioning)
            plain = self.model.apply_model(x, t, uncond)  # two calls, as there
            x = self.step(x, plain + scale * (guided - plain), index)
        return x

    def step(self, x, eps, index):
        tables = (self.ddim_alphas, self.ddim_alphas_prev, self.ddim_sigmas)
        a_t, a_prev, sigma = (torch.full((len(x), 1, 1, 1), float(v[index])) for v in tables)
        s_t = torch.full((len(x), 1, 1, 1), float(self.ddim_sqrt_one_minus_alphas[index]))
        x0 = (x - s_t * eps) / a_t.sqrt()
        noise = sigma * util.noise_like(x.shape, x.device, False)
        return a_prev.sqrt() * x0 + (1.0 - a_prev - sigma**2).sqrt() * eps + noise


@pytest.mark.filterwarnings("ignore:__array_wrap__")
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_a_forks_whole_sampler_on_our_helpers_draws_what_ours_does(eta):
    from ldm.models.diffusion.ddim import DDIMSampler

    x_T = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    cond, uncond = torch.full((2, 1, 1, 1), 0.4), torch.full((2, 1, 1, 1), 0.1)
    torch.manual_seed(2)
    own = OwnSampler(GaussianModel()).sample(10, 2, SHAPE, cond, x_T, eta, 3.0, uncond)
    torch.manual_seed(2)
    ours, _ = DDIMSampler(GaussianModel()).sample(
        10,
        2,
        SHAPE,
        cond,
        x_T=x_T,
        eta=eta,
        verbose=False,
        unconditional_guidance_scale=3.0,
        unconditional_conditioning=uncond,
    )
    torch.testing.assert_close(own, ours, rtol=0, atol=1e-5)

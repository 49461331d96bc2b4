"""Walks in noise levels on the Gaussian oracle, and how fast their error falls."""

from __future__ import annotations

import math

import torch
from oracle import GaussianModel

from ldm.models.diffusion.sampler_registry import make_sampler

SHAPE = (2, 4, 4)
MEAN, STD = 0.5, 0.7


class SigmaModel(GaussianModel):
    """The oracle with log sigma linear in time between training steps, as k-samplers take it."""

    def alpha_bar(self, t: torch.Tensor) -> torch.Tensor:
        logs = (1 / self.alphas_cumprod.double() - 1).log()
        below = t.double().clamp(0, self.num_timesteps - 1).floor().long()
        above = (below + 1).clamp(max=self.num_timesteps - 1)
        return torch.sigmoid(-torch.lerp(logs[below], logs[above], t.double() - below))


def start_noise(batch: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(seed))


def make(name: str, steps: int, spacing: str = "uniform", *, model=None, eta: float | None = None):
    """Return a sampler with its schedule; ``eta`` is for those that add noise."""
    model = model or SigmaModel(MEAN, STD)
    sampler = make_sampler(name, model, spacing=spacing)
    if eta is not None:
        sampler = type(sampler)(model, spacing=spacing, eta=eta)
    sampler.make_schedule(steps)
    return sampler


def walked(sampler, x=None, **options) -> list[torch.Tensor]:
    """Return the samples after every step."""
    x = start_noise() if x is None else x
    return [state.x for state in sampler.walk(x, **options)]


def error(name: str, steps: int, spacing: str, eta: float | None = None) -> float:
    """Return the RMS distance from the exact flow where the last step begins.

    That is at the model's smallest sigma whatever the count of steps. The last step, from there
    to 0, is no shorter in a finer grid; how far it is off is tested apart.
    """
    sampler = make(name, steps, spacing, eta=eta)
    x = start_noise().double()  # the walk keeps float64: rounding hides nothing
    exact = sampler.model.flow(x, sampler.time(steps - 1), sampler.time(0), mean=MEAN)
    return (walked(sampler, x)[-2] - exact).square().mean().sqrt().item()


def order(*arguments, coarse: int, fine: int) -> float:
    """Return the exponent p of error ~ steps ** -p between two step counts."""
    name, spacing, eta = arguments
    ratio = error(name, coarse, spacing, eta) / error(name, fine, spacing, eta)
    return math.log(ratio) / math.log(fine / coarse)


def from_the_datas_marginal(sampler, batch: int = 8) -> torch.Tensor:
    """Return starts (batch, 4, 32, 32): a start of N(0, 1) has lost a little of the mean."""
    draws = [
        torch.randn(batch, 4, 32, 32, generator=torch.Generator().manual_seed(k)) for k in (0, 1)
    ]
    return sampler.model.q_sample(MEAN + STD * draws[0], torch.full((batch,), 999), draws[1])

"""A walk of a narrow model, for shortcuts to act on."""

from __future__ import annotations

import torch

from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.rng import PerImageNoise

STEPS = 5


def conditionings(rows=2):
    generator = torch.Generator().manual_seed(3)
    return (torch.randn(rows, 77, 32, generator=generator) for _ in range(2))


def walk(model, sampler="ddim", scale=3.0, rows=2, **given):
    cond, uncond = conditionings(rows)
    made = make_sampler(sampler, model, spacing="linspace", noise=PerImageNoise(range(rows)))
    made.make_schedule(STEPS, verbose=False)
    x = torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    options = {"unconditional_guidance_scale": scale, "unconditional_conditioning": uncond}
    for state in made.walk(x, cond, **options, **given):
        x = state.x
    return x

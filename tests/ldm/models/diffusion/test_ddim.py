"""DDIM's table of steps. What its steps do is in test_oracle.py and test_sampler_behaviour.py."""

from __future__ import annotations

import torch
from oracle import GaussianModel

from ldm.models.diffusion.ddim import DDIMSampler


def test_each_step_ends_where_the_next_begins_and_the_last_at_the_first_training_steps_noise():
    model = GaussianModel()
    sampler = DDIMSampler(model)
    sampler.make_schedule(10)
    table = sampler.schedule
    assert torch.equal(table.alphas_prev[1:], table.alphas[:-1])
    assert table.alphas_prev[0] == model.alphas_cumprod[0].float()

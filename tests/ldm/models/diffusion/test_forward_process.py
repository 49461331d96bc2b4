"""The forward process: samples are noised as the schedule says."""

from __future__ import annotations

import torch

from ldm.models.diffusion.forward_process import ForwardProcess


def test_noising_is_equation_4_at_each_samples_own_step():
    process = ForwardProcess()
    process.register_schedule(timesteps=50)
    x0, noise = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 20, 49])
    cumprod = (1 - process.betas.double()).cumprod(0)[t].reshape(3, 1, 1, 1)
    expected = cumprod.sqrt() * x0 + (1 - cumprod).sqrt() * noise
    torch.testing.assert_close(process.q_sample(x0, t, noise), expected.float())

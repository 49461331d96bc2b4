"""The denoiser as the k-samplers see it: samples with unit weight on x0, and noise sigma.

Symbols as in ``ldm.process.sigmas``; y = x / a = x0 + sigma eps is the paper's x
(arXiv:2206.00364), named apart because everything outside the k-samplers' rules holds x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ldm.models.diffusion.denoiser import Denoiser
from ldm.process.sigmas import SigmaSchedule, vp_scales


class KDenoiser:
    """A walk's denoiser in terms of y and sigma.

    Args:
        denoiser: The model with its conditioning, guidance and noise.
        schedule: Gives the model's time for a sigma.
    """

    def __init__(self, denoiser: Denoiser, schedule: SigmaSchedule):
        self.denoiser, self.schedule = denoiser, schedule

    def __call__(self, y: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Ask the model, once, at y (B,C,h,w) with noise ``sigma`` above 0.

        Returns:
            The guided estimate of x0, and with it the slope dy / dsigma of the probability flow:
            (y - x0) / sigma (arXiv:2206.00364, Eq. 1 with the score of Eq. 3); each (B,C,h,w).
        """
        a, s = (torch.tensor(float(v), dtype=torch.float32) for v in vp_scales(sigma))
        x0 = self.denoiser.x0(a * y, float(self.schedule.time(sigma)), a, s)
        return x0, (y - x0) / sigma

    def noise(self, y: Tensor) -> Tensor:
        """Draw standard normal noise like y from the walk's own source."""
        return self.denoiser.step_noise(y)

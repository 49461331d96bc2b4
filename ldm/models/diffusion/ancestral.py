"""Ancestral sampling: DDPM, arXiv:2006.11239, Algorithm 2.

Symbols: a_t alphas_cumprod at the step, beta_t the variance that training adds there.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm.models.diffusion.denoiser import Denoiser, Step, StepRule
from ldm.models.diffusion.sampler import Sampler
from ldm.process.schedules import diffusion_coefficients
from ldm.process.spacing import make_timesteps
from ldm.rng import NoiseSource
from ldm.types import EpsModel

logger = logging.getLogger(__name__)


class AncestralSampler(Sampler):
    """Draws from the posterior of each step, by default over all T training steps.

    What it has over DDIM with eta 1, which takes the same steps, is ``clip_denoised``: a model of
    pixels knows that they end at -1 and 1.

    Args:
        model: As for ``Sampler``; its ``v_posterior``, if it has one, is respected.
        schedule: Kept for CompVis.
        spacing: As for ``Sampler``; of no effect when all training steps are taken.
        noise: As for ``Sampler``.
        clip_denoised: Cut estimates of x0 to [-1, 1]; None does as the model's attribute says, but
            as in the reference never to latents, which have no such range.
        **kwargs: As for ``Sampler``.
    """

    def __init__(
        self,
        model: EpsModel,
        schedule: str = "linear",
        *,
        spacing: str = "uniform",
        noise: NoiseSource | None = None,
        clip_denoised: bool | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, schedule, spacing=spacing, noise=noise, **kwargs)
        own = getattr(model, "clip_denoised", False) and not hasattr(model, "first_stage_model")
        self.clip_denoised = own if clip_denoised is None else clip_denoised

    def make_schedule(
        self,
        ddim_num_steps: int,
        ddim_discretize: str | None = None,
        ddim_eta: float = 0.0,
        verbose: bool = True,  # noqa: ARG002 - kept for CompVis
    ) -> None:
        """Lay out the steps; fewer than T make a shorter chain (arXiv:2102.09672, section 4)."""
        if ddim_eta not in (0.0, 1.0):
            logger.warning("ddim_eta %s is ignored: ancestral sampling adds all noise", ddim_eta)
        if ddim_num_steps == self.model.num_timesteps:
            self.timesteps = np.arange(ddim_num_steps)
        else:
            spacing = ddim_discretize or self.spacing
            self.timesteps = make_timesteps(spacing, ddim_num_steps, self.model.num_timesteps)
        self.steps = len(self.timesteps)
        cumprod = self.model.alphas_cumprod.detach().double().cpu().numpy()[self.timesteps]
        betas = 1.0 - cumprod / np.append(1.0, cumprod[:-1])
        tables = diffusion_coefficients(betas, getattr(self.model, "v_posterior", 0.0))
        # The last step, whose variance DDPM cuts to a small number, adds nothing in Algorithm 2.
        tables["sigmas"] = np.sqrt(tables["posterior_variance"]) * (np.arange(self.steps) > 0)
        self.tables = {name: torch.tensor(table).float() for name, table in tables.items()}

    def time(self, index: int) -> int:
        return int(self.timesteps[index])

    def _scales(self, index: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return how much of x0 and of noise is in a sample where a step begins."""
        a = self.tables["sqrt_alphas_cumprod"][index]
        return a, self.tables["sqrt_one_minus_alphas_cumprod"][index]

    def new_rule(self, denoiser: Denoiser, total: int) -> StepRule:  # noqa: ARG002
        def rule(x: Tensor, index: int) -> Step:
            a, s = self._scales(index)
            # Eq. 15 if the model predicts eps: x0 = (x - s eps) / a.
            x0 = denoiser.x0(x, self.time(index), a, s)
            if self.clip_denoised:
                x0 = x0.clamp(-1.0, 1.0)
            # Eq. 6: q(x_prev | x, x0) is normal. Eq. 7: its mean, and as sigma^2 its variance.
            mean = self.tables["posterior_mean_coef1"][index] * x0
            mean = mean + self.tables["posterior_mean_coef2"][index] * x
            x_prev = mean + self.tables["sigmas"][index] * denoiser.step_noise(x)
            return Step(x_prev, x0, (x - a * x0) / s)

        return rule

    def renoise(self, x0: Tensor, index: int, noise: Tensor) -> Tensor:
        a, s = self._scales(index)
        return a * x0 + s * noise

    def encoding(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales of exactly where ``decode`` with ``t_start=t`` begins; 0 is clean."""
        a, s = self._scales((t - 1).clamp(0, self.steps - 1))
        return torch.where(t > 0, a, 1.0), torch.where(t > 0, s, 0.0)

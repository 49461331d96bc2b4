"""DPM-Solver++(2M): arXiv:2211.01095, Algorithm 2, in steps uniform in time.

Symbols: alpha, sigma, lambda as in ``ldm.process.log_snr``; h = lambda_t - lambda_s.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm.models.diffusion.denoiser import Denoiser, Step, StepRule
from ldm.models.diffusion.dpm_solver.dpm_solver import DPM_Solver, NoiseScheduleVP, model_wrapper
from ldm.models.diffusion.sampler import Sampler
from ldm.process.log_snr import ContinuousSchedule
from ldm.process.spacing import make_timesteps
from ldm.types import EpsModel

__all__ = ["DPMSolverSampler", "DPM_Solver", "NoiseScheduleVP", "model_wrapper"]

logger = logging.getLogger(__name__)

FEW_STEPS = 15
"""Below this many steps the last one is of first order, for stability, as in the reference."""


class DPMSolverSampler(Sampler):
    """Second-order multistep solver on the estimates of x0. S steps take S calls of the model.

    Its rule is ``DPM_Solver``'s of order 2, in the numbers of one walk and not in tensors.

    Args:
        model: As for ``Sampler``.
        schedule: Kept for CompVis.
        **kwargs: As for ``Sampler``.
    """

    def __init__(self, model: EpsModel, schedule: str = "linear", **kwargs: Any):
        super().__init__(model, schedule, **kwargs)
        self.register_buffer("alphas_cumprod", model.alphas_cumprod.detach().clone().float())

    def make_schedule(
        self,
        ddim_num_steps: int,
        ddim_discretize: str | None = None,
        ddim_eta: float = 0.0,
        verbose: bool = True,  # noqa: ARG002 - kept for CompVis
    ) -> None:
        if ddim_eta != 0:
            logger.warning("ddim_eta %s is ignored: DPM-Solver adds no noise", ddim_eta)
        count = self.model.num_timesteps
        alphas_cumprod = self.model.alphas_cumprod.detach().float().cpu().numpy()
        self.process = ContinuousSchedule(alphas_cumprod)
        if (ddim_discretize or self.spacing) == "uniform":
            # The reference's times; they do not depend on the training steps' striding.
            make_timesteps("trailing", ddim_num_steps, count)
            grid = np.linspace(1.0 / count, 1.0, ddim_num_steps + 1)
        else:
            # Steps of no length, which quad has, have no slope to extrapolate by.
            steps = np.unique(
                make_timesteps(ddim_discretize or self.spacing, ddim_num_steps, count)
            )
            grid = np.concatenate([[1.0], steps + 1.0]) / count
        # grid[i + 1] is where step i begins and grid[i] where it ends.
        self.grid, self.steps = grid, len(grid) - 1

    def sampling(self, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        """Walk as other samplers do; as in the reference there are no kept states."""
        return super().sampling(*args, **kwargs)[0], None

    def time(self, index: int) -> float:
        return self.process.model_time(float(self.grid[index + 1]))

    def new_rule(self, denoiser: Denoiser, total: int) -> StepRule:
        """Return Algorithm 2's step, from s to t.

        D = (1 + 1 / (2 r)) x0 - 1 / (2 r) x0_before, with r = (lambda_s - lambda_before) / h;
        x_t = (sigma_t / sigma_s) x_s - alpha_t (exp(-h) - 1) D.
        The first step has D = x0, which is DDIM's.
        """
        previous: list[tuple[float, Tensor]] = []  # (lambda, x0) of the step before

        def rule(x: Tensor, index: int) -> Step:
            s, t = float(self.grid[index + 1]), float(self.grid[index])
            alpha_s, sigma_s = self._scales(s)
            x0 = denoiser.x0(x, self.time(index), alpha_s, sigma_s)
            lam_s, lam_t = float(self.process.lam(s)), float(self.process.lam(t))
            estimate = x0
            if previous and not (index == 0 and total < FEW_STEPS):
                lam_before, x0_before = previous[0]
                ratio = (lam_t - lam_s) / (2.0 * (lam_s - lam_before))  # 1 / (2 r)
                estimate = x0 + ratio * (x0 - x0_before)  # D
            previous[:] = [(lam_s, x0)]
            alpha_t, sigma_t = self._scales(t)
            shrink = -float(np.expm1(lam_s - lam_t))  # 1 - exp(-h)
            x_next = (sigma_t / sigma_s) * x + alpha_t * shrink * estimate
            return Step(x_next, x0, (x - alpha_s * x0) / sigma_s)

        return rule

    def _scales(self, t: np.ndarray | float) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        return torch.tensor(alpha, dtype=torch.float32), torch.tensor(sigma, dtype=torch.float32)

    def renoise(self, x0: Tensor, index: int, noise: Tensor) -> Tensor:
        alpha, sigma = self._scales(float(self.grid[index + 1]))
        return alpha * x0 + sigma * noise

    def encoding(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales of exactly where ``decode`` with ``t_start=t`` begins.

        0 is the clean end of the schedule, where alphas_cumprod is that of the first training step.
        """
        return self._scales(self.grid[t.clamp(0, self.steps).numpy()])

"""DDIM: arXiv:2010.02502, Eq. 12, with the sigmas of Eq. 16.

Symbols: a_t alphas_cumprod at the step (the paper's alpha_t), a_prev at the next cleaner one,
sigma_t the step's noise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.sampler import Denoiser, Sampler, Step, StepRule
from ldm.modules.diffusionmodules.util import make_ddim_sampling_parameters
from ldm.process.spacing import make_timesteps

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiscreteSchedule:
    """A sampler's table of steps, clean end first, on the CPU in float32.

    Attributes:
        timesteps: Model times (S,), increasing.
        alphas: alphas_cumprod at them (S,).
        alphas_prev: The same one step cleaner (S,).
        sigmas: Noise added by each step (S,).
    """

    timesteps: np.ndarray
    alphas: Tensor
    alphas_prev: Tensor
    sigmas: Tensor

    @classmethod
    def make(cls, alphas_cumprod: Tensor, timesteps: np.ndarray, eta: float) -> DiscreteSchedule:
        """Compute the table from a model's alphas_cumprod (T,)."""
        return cls._of(alphas_cumprod.detach().float().cpu().numpy(), timesteps, eta, timesteps)

    @classmethod
    def original(cls, alphas_cumprod: Tensor, eta: float) -> DiscreteSchedule:
        """Compute the table of every training step (T,); the last one ends at the clean sample.

        The other tables end, as the reference's do, at the first training step's noise.
        """
        cumprod = np.append(1.0, alphas_cumprod.detach().float().cpu().numpy())
        steps = np.arange(len(cumprod) - 1)
        return cls._of(cumprod, steps + 1, eta, steps)

    @classmethod
    def _of(
        cls, cumprod: np.ndarray, indices: np.ndarray, eta: float, timesteps: np.ndarray
    ) -> DiscreteSchedule:
        sigmas, alphas, prev = make_ddim_sampling_parameters(cumprod, indices, eta)
        tables = (torch.tensor(v, dtype=torch.float32) for v in (alphas, prev, sigmas))
        return cls(timesteps, *tables)


class DDIMSampler(Sampler):
    """DDIM with the reference's tables, and any of the other spacings."""

    schedule: DiscreteSchedule

    def make_schedule(
        self,
        ddim_num_steps: int,
        ddim_discretize: str | None = None,
        ddim_eta: float = 0.0,
        verbose: bool = True,  # noqa: ARG002 - kept for CompVis
    ) -> None:
        if not 0.0 <= ddim_eta <= 1.0:
            raise UserError(f"ddim_eta {ddim_eta} given; expected a number from 0 to 1")
        spacing = ddim_discretize or self.spacing
        timesteps = make_timesteps(spacing, ddim_num_steps, self.model.num_timesteps)
        if len(timesteps) != ddim_num_steps:
            logger.warning(
                "%d steps asked, %d taken: the reference's %s spacing keeps to whole training "
                "steps; --spacing linspace or trailing takes exactly %d",
                ddim_num_steps,
                len(timesteps),
                spacing,
                ddim_num_steps,
            )
        self.eta = ddim_eta
        self._set(DiscreteSchedule.make(self.model.alphas_cumprod, timesteps, ddim_eta))

    def _set(self, schedule: DiscreteSchedule) -> None:
        self.schedule = schedule
        self.ddim_timesteps, self.steps = schedule.timesteps, len(schedule.timesteps)

    @contextmanager
    def original_steps(self, use: bool) -> Iterator[None]:
        self.require_schedule()
        kept = self.schedule
        if use:
            self._set(DiscreteSchedule.original(self.model.alphas_cumprod, self.eta))
        try:
            yield
        finally:
            self._set(kept)

    def time(self, index: int) -> int:
        return int(self.schedule.timesteps[index])

    def new_rule(self, denoiser: Denoiser, total: int) -> StepRule:  # noqa: ARG002
        def rule(x: Tensor, index: int) -> Step:
            eps = self.eps_at(denoiser, x, index)
            return self.update(denoiser, x, eps, index)

        return rule

    def eps_at(self, denoiser: Denoiser, x: Tensor, index: int) -> Tensor:
        """Return the guided eps (B,C,h,w) of a step at the sample ``x``."""
        a_t = self.schedule.alphas[index]
        return denoiser.eps(x, self.time(index), a_t.sqrt(), (1.0 - a_t).sqrt())

    def update(self, denoiser: Denoiser, x: Tensor, eps: Tensor, index: int) -> Step:
        """Step along ``eps`` (B,C,h,w).

        Eq. 12 of arXiv:2010.02502: x_prev = sqrt(a_prev) x0 + sqrt(1 - a_prev - sigma_t^2) eps
        + sigma_t noise, where x0 = (x - sqrt(1 - a_t) eps) / sqrt(a_t) is Eq. 9.
        """
        table = self.schedule
        a_t, a_prev, sigma_t = table.alphas[index], table.alphas_prev[index], table.sigmas[index]
        e = eps.to(x.dtype)
        x0 = denoiser.snap((x - (1.0 - a_t).sqrt() * e) / a_t.sqrt())
        direction = (1.0 - a_prev - sigma_t**2).sqrt() * e  # "direction pointing to x_t"
        x_prev = a_prev.sqrt() * x0 + direction + sigma_t * denoiser.step_noise(x)
        return Step(x_prev, x0, eps)

    def renoise(self, x0: Tensor, index: int, noise: Tensor) -> Tensor:
        t = torch.full((x0.shape[0],), self.time(index), device=x0.device, dtype=torch.long)
        return self.model.q_sample(x0, t, noise)

    def encoding(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales of the table's entry ``t``.

        As in the reference that is one step noisier than where ``decode(t_start=t)`` begins;
        the table's end stands for every later entry, so full strength works.
        """
        a_t = self.schedule.alphas[t.clamp(0, self.steps - 1)]
        return a_t.sqrt(), (1.0 - a_t).sqrt()

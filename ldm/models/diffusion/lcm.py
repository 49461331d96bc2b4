"""Latent consistency models' sampler (arXiv:2310.04378), for a distilled model or an LCM-LoRA.

Such a model says in one call where a sample's walk ends. A step asks for that end and noises it to
where the next step begins: multistep consistency sampling, arXiv:2303.01469, Algorithm 1.

    f(x, t) = c_skip(t) x + c_out(t) x0(x, t)                       arXiv:2310.04378, Eq. 9
    c_skip = d^2 / ((k t)^2 + d^2),  c_out = k t / sqrt((k t)^2 + d^2),  d = 0.5,  k = 10

4 to 8 steps are meant. The guidance scale is the plain one, with a second row for the negative
prompt: 1, no guidance, to 2 are what an LCM-LoRA is made for, as guidance is distilled into it.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.denoiser import Denoiser, Step, StepRule
from ldm.models.diffusion.sampler import Sampler
from ldm.process.spacing import make_timesteps

logger = logging.getLogger(__name__)

DISTILLED = 50
"""Steps of the solver that published models were distilled from."""
SIGMA_DATA, TIME_SCALE = 0.5, 10.0  # d and k


def distilled_times(steps: int, num_timesteps: int) -> np.ndarray:
    """Choose ``steps`` of the distilled steps, evenly by their number and from the noisy end.

    Args:
        steps: How many, 1 ... ``DISTILLED``.
        num_timesteps: T, the number of training steps.

    Raises:
        UserError: There are not so many.

    Example:
        >>> distilled_times(4, 1000)
        array([259, 499, 759, 999])
    """
    most = min(DISTILLED, num_timesteps)
    if not 1 <= steps <= most:
        raise UserError(
            f"{steps} steps given for lcm or tcd; expected 1 to {most}, of which their models were "
            "distilled; 4 to 8 are usual"
        )
    grid = np.arange(1, most + 1) * (num_timesteps // most) - 1
    from_noise = np.floor(np.linspace(0, most, steps, endpoint=False)).astype(np.int64)
    return grid[::-1][from_noise][::-1].copy()


def boundary_scales(t: float) -> tuple[float, float]:
    """Return c_skip and c_out at a time."""
    scaled = TIME_SCALE * t
    total = scaled**2 + SIGMA_DATA**2
    return SIGMA_DATA**2 / total, scaled / total**0.5


class LCMSampler(Sampler):
    """Consistency sampling: S steps take S calls of the model, and draw noise S - 1 times.

    The spacing ``uniform`` is that of distillation, see ``distilled_times``.
    """

    def make_schedule(
        self,
        ddim_num_steps: int,
        ddim_discretize: str | None = None,
        ddim_eta: float = 0.0,
        verbose: bool = True,  # noqa: ARG002 - kept for CompVis
    ) -> None:
        if ddim_eta != 0:
            logger.warning("ddim_eta %s is ignored: lcm adds noise of its own", ddim_eta)
        spacing, count = ddim_discretize or self.spacing, self.model.num_timesteps
        if spacing == "uniform":
            self.times = distilled_times(ddim_num_steps, count)
        else:
            self.times = np.unique(make_timesteps(spacing, ddim_num_steps, count))
        self.steps = len(self.times)
        cumprod = self.model.alphas_cumprod.detach().float().cpu()
        # Where each step begins.
        begin = cumprod[torch.as_tensor(self.times)]
        self.a, self.s = begin.sqrt(), (1.0 - begin).sqrt()

    def time(self, index: int) -> int:
        return int(self.times[index])

    def new_rule(self, denoiser: Denoiser, total: int) -> StepRule:  # noqa: ARG002
        def rule(x: Tensor, index: int) -> Step:
            a, s = self.a[index], self.s[index]
            x0 = denoiser.x0(x, self.time(index), a, s)
            c_skip, c_out = boundary_scales(self.time(index))
            end = c_skip * x + c_out * x0  # f(x, t)
            eps = (x - a * x0) / s
            if index == 0:
                return Step(end, end, eps)
            return Step(self.renoise(end, index - 1, denoiser.step_noise(x)), end, eps)

        return rule

    def renoise(self, x0: Tensor, index: int, noise: Tensor) -> Tensor:
        return self.a[index] * x0 + self.s[index] * noise

    def encoding(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales of exactly where ``decode`` with ``t_start=t`` begins; 0 is clean."""
        entry = t.clamp(0, self.steps)
        a, s = torch.cat([torch.ones(1), self.a]), torch.cat([torch.zeros(1), self.s])
        return a[entry], s[entry]

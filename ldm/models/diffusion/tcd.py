"""Trajectory consistency sampling (arXiv:2402.19159), for a distilled model or a TCD-LoRA.

Such a model says in one call where a sample's walk is at a cleaner time s: on the trajectory
through its estimate of x0 and of eps. The paper's "strategic stochastic sampling" goes to
s = (1 - gamma) times the next step's time and comes back to that with noise.
"""

from __future__ import annotations

import math

from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.denoiser import Denoiser, Step, StepRule
from ldm.models.diffusion.lcm import LCMSampler


class TCDSampler(LCMSampler):
    """TCD: S steps take S calls of the model, and draw noise S - 1 times, at gamma 0 too.

    ``ddim_eta`` is the paper's gamma: 0 draws without noise, 1 steps as multistep consistency
    sampling; the paper's usual value is 0.3, and more is for more steps. Times are those of
    ``LCMSampler``. The last step ends at the first training step's noise, as in diffusers.
    """

    def make_schedule(
        self,
        ddim_num_steps: int,
        ddim_discretize: str | None = None,
        ddim_eta: float = 0.0,
        verbose: bool = True,
    ) -> None:
        if not 0.0 <= ddim_eta <= 1.0:
            raise UserError(f"ddim_eta {ddim_eta} given as TCD's gamma; expected 0 to 1")
        super().make_schedule(ddim_num_steps, ddim_discretize, 0.0, verbose)
        cumprod = self.model.alphas_cumprod.detach().float().cpu()
        after = [0, *self.times[:-1].tolist()]  # where each step's successor begins
        self.prev = cumprod[after]
        self.turn = cumprod[[math.floor((1.0 - ddim_eta) * t) for t in after]]  # at s

    def new_rule(self, denoiser: Denoiser, total: int) -> StepRule:  # noqa: ARG002
        def rule(x: Tensor, index: int) -> Step:
            a, s = self.a[index], self.s[index]
            x0 = denoiser.x0(x, self.time(index), a, s)
            eps = (x - a * x0) / s
            turn, prev = self.turn[index], self.prev[index]
            x_s = turn.sqrt() * x0 + (1.0 - turn).sqrt() * eps
            if index == 0:
                return Step(x_s, x0, eps)
            # q(x_prev | x_s) of the forward process.
            noise = denoiser.step_noise(x)
            kept, added = (prev / turn).sqrt(), (1.0 - prev / turn).clamp(min=0).sqrt()
            return Step(kept * x_s + added * noise, x0, eps)

        return rule

"""PLMS, pseudo linear multi-step sampling: PNDM, arXiv:2202.09778, without Runge-Kutta start.

The paper's Eq. 12 extrapolates eps from four steps; its Eq. 13, the Runge-Kutta method that finds
the first three, is left out as in the reference: multi-step formulas of lower order stand there.
"""

from __future__ import annotations

from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.sampler import Denoiser, Step, StepRule

ADAMS_BASHFORTH = {
    2: ((3, -1), 2),
    3: ((23, -16, 5), 12),
    4: ((55, -59, 37, -9), 24),
}
"""Numerators, newest first, and denominator, by the number of eps at hand. Four give Eq. 12."""


class PLMSSampler(DDIMSampler):
    """DDIM's update along an extrapolated eps. S steps take S + 1 calls of the model."""

    def make_schedule(
        self,
        ddim_num_steps: int,
        ddim_discretize: str | None = None,
        ddim_eta: float = 0.0,
        verbose: bool = True,
    ) -> None:
        if ddim_eta != 0:
            raise UserError(
                f"ddim_eta {ddim_eta} given; ddim_eta must be 0 for PLMS: leave it out, or sample "
                "with ddim"
            )
        super().make_schedule(ddim_num_steps, ddim_discretize, ddim_eta, verbose)

    def new_rule(self, denoiser: Denoiser, total: int) -> StepRule:  # noqa: ARG002
        history: list[Tensor] = []  # guided eps, newest first, three at most

        def rule(x: Tensor, index: int) -> Step:
            eps = self.eps_at(denoiser, x, index)
            # Eq. 12: eps' = (55 eps_t - 59 eps_(t-1) + 37 eps_(t-2) - 9 eps_(t-3)) / 24, counting
            # back over the steps taken; fewer eps have the shorter formulas.
            if history:
                numerators, denominator = ADAMS_BASHFORTH[len(history) + 1]
                terms = [c * e for c, e in zip(numerators, [eps, *history], strict=True)]
                extrapolated = sum(terms[1:], terms[0]) / denominator
            else:
                # Improved Euler: average with the eps that a trial step meets.
                trial = self.update(denoiser, x, eps, index).x
                extrapolated = (eps + self.eps_at(denoiser, trial, max(index - 1, 0))) / 2
            history.insert(0, eps)
            del history[3:]
            # The paper's transfer part is DDIM's step.
            return self.update(denoiser, x, extrapolated, index)

        return rule

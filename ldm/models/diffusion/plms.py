"""PLMS, pseudo linear multi-step sampling: PNDM, arXiv:2202.09778, without Runge-Kutta start.

The paper's Eq. 12 extrapolates eps from four steps; its Eq. 13, the Runge-Kutta method that finds
the first three, is left out as in the reference: multi-step formulas of lower order stand there.
Forks also import from here what CompVis's file of this name imports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.denoiser import Denoiser, Step, StepRule, times_of
from ldm.models.diffusion.discrete_sampler import DiscreteSampler
from ldm.modules.diffusionmodules.util import (
    make_ddim_sampling_parameters,
    make_ddim_timesteps,
    noise_like,
)
from ldm.types import Conditioning

__all__ = [
    "ADAMS_BASHFORTH",
    "PLMSSampler",
    "make_ddim_sampling_parameters",
    "make_ddim_timesteps",
    "noise_like",
]

ADAMS_BASHFORTH = {
    2: ((3, -1), 2),
    3: ((23, -16, 5), 12),
    4: ((55, -59, 37, -9), 24),
}
"""Numerators, newest first, and denominator, by the number of eps at hand. Four give Eq. 12."""


class PLMSSampler(DiscreteSampler):
    """DDIM's update along an extrapolated eps. S steps take S + 1 calls of the model."""

    LOOP, STEP = "plms_sampling", "p_sample_plms"
    plms_sampling = DiscreteSampler.strided_sampling

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
        old_eps: list[Tensor] = []  # guided, newest last, three at most
        overridden = self.is_overridden

        def rule(x: Tensor, index: int) -> Step:
            after = self.time(max(index - 1, 0))
            if overridden:
                times = times_of(x, after)
                step = Step(*self.obey(denoiser, x, index, old_eps=old_eps, t_next=times))
                eps = step.eps
            else:
                step, eps = self._advance(denoiser, x, index, self.time(index), after, old_eps)
            old_eps.append(eps)
            del old_eps[:-3]
            return step

        return rule

    def _advance(
        self,
        denoiser: Denoiser,
        x: Tensor,
        index: int,
        t: Tensor | int,
        t_next: Tensor | int,
        old_eps: Sequence[Tensor],
    ) -> tuple[Step, Tensor]:
        """Return the step from the sample ``x``, and the guided eps there.

        Eq. 12: eps' = (55 eps_t - 59 eps_(t-1) + 37 eps_(t-2) - 9 eps_(t-3)) / 24, counting back
        over the steps taken; fewer ``old_eps`` have the shorter formulas.
        """
        eps = self.eps_at(denoiser, x, index, t)
        if old_eps:
            newest_first = [eps, *reversed(old_eps[-3:])]
            numerators, denominator = ADAMS_BASHFORTH[len(newest_first)]
            terms = [c * e for c, e in zip(numerators, newest_first, strict=True)]
            extrapolated = sum(terms[1:], terms[0]) / denominator
        else:
            # Improved Euler: average with the eps that a trial step meets.
            trial = self.update(denoiser, x, eps, index).x
            extrapolated = (eps + self.eps_at(denoiser, trial, max(index - 1, 0), t_next)) / 2
        # The paper's transfer part is DDIM's step.
        return self.update(denoiser, x, extrapolated, index), eps

    @torch.no_grad()
    def p_sample_plms(
        self,
        x: Tensor,
        c: Conditioning,
        t: Tensor,
        index: int,
        repeat_noise: bool = False,
        use_original_steps: bool = False,
        quantize_denoised: bool = False,
        temperature: float = 1.0,
        noise_dropout: float = 0.0,
        score_corrector: Any = None,
        corrector_kwargs: Mapping[str, Any] | None = None,
        unconditional_guidance_scale: float = 1.0,
        unconditional_conditioning: Conditioning = None,
        old_eps: Sequence[Tensor] | None = None,
        t_next: Tensor | None = None,
        dynamic_threshold: float | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step. Walks take each by this method where a fork overrides it.

        Args:
            x: Sample (B,C,h,w) where the step begins.
            c: Conditioning of B rows.
            t: What the model is told the time is (B,).
            index: Entry of the tables, from the clean end.
            repeat_noise: Give every row the first one's noise.
            use_original_steps: ``index`` counts training steps.
            quantize_denoised: Snap estimates of x0 to the codebook.
            unconditional_conditioning: None means no guidance; the others are those of ``sample``.
            old_eps: What the steps before returned as eps, newest last; none before the first.
            t_next: Time of the next step (B,), for the first step's trial; by the tables if None.

        Returns:
            The next sample, the estimate of x0, and the guided eps at ``x``, each (B,C,h,w).
        """
        with self.one_step(
            c,
            unconditional_guidance_scale,
            unconditional_conditioning,
            use_original_steps,
            repeat_noise=repeat_noise,
            quantize_x0=quantize_denoised,
            temperature=temperature,
            noise_dropout=noise_dropout,
            score_corrector=score_corrector,
            corrector_kwargs=corrector_kwargs,
            dynamic_threshold=dynamic_threshold,
        ) as denoiser:
            after = self.time(max(index - 1, 0)) if t_next is None else t_next
            step, eps = self._advance(denoiser, x, index, t, after, old_eps or ())
        return step.x, step.x0, eps

    OWN_STEP = (p_sample_plms,)

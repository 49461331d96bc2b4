"""Single steps of DPM-Solver and DPM-Solver++, of order 1 to 3.

arXiv:2206.00927 and arXiv:2211.01095. Symbols: alpha, sigma, lambda as in ``ldm.process.log_snr``;
m is the model's prediction, of noise or of x0; h = lambda_t - lambda_s. All steps are

    x_t = A x_s - B (phi_1(u) m + phi_2(u) D1 + phi_3(u) D2),

phi_1(u) = exp(u) - 1, phi_2 = phi_1 / u - 1, phi_3 = phi_2 / u - 1/2, where A = alpha_t / alpha_s,
B = sigma_t, u = h for noise and A = sigma_t / sigma_s, B = alpha_t, u = -h for x0; D1 and D2 are
finite differences of m, each in units of h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.dpm_solver.noise_model import expand_dims
from ldm.models.diffusion.dpm_solver.noise_schedule import NoiseScheduleVP
from ldm.process.thresholding import limit_quantile


class SolverSteps:
    """The steps of ``DPM_Solver``, whose parameters are described there."""

    def __init__(
        self,
        model_fn: Callable[[Tensor, Tensor], Tensor],
        noise_schedule: NoiseScheduleVP,
        predict_x0: bool = False,
        thresholding: bool = False,
        max_val: float = 1.0,
    ):
        self.model, self.noise_schedule = model_fn, noise_schedule
        self.predict_x0, self.thresholding, self.max_val = predict_x0, thresholding, max_val

    # Predictions: each of x (B,C,h,w) at times (B,)

    def noise_prediction_fn(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the noise."""
        return self.model(x, t)

    def data_prediction_fn(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the estimate of x0."""
        alpha = expand_dims(self.noise_schedule.marginal_alpha(t), x.ndim)
        sigma = expand_dims(self.noise_schedule.marginal_std(t), x.ndim)
        x0 = (x - sigma * self.noise_prediction_fn(x, t)) / alpha
        return limit_quantile(x0, self.max_val) if self.thresholding else x0

    def model_fn(self, x: Tensor, t: Tensor) -> Tensor:
        """Return m: the estimate of x0 or the noise, as ``predict_x0`` says."""
        return self.data_prediction_fn(x, t) if self.predict_x0 else self.noise_prediction_fn(x, t)

    def denoise_to_zero_fn(self, x: Tensor, s: Tensor) -> Tensor:
        """Return the estimate of x0: a step of first order to time 0."""
        return self.data_prediction_fn(x, s)

    # Steps from times s to t, each (B,)

    def dpm_solver_first_update(
        self,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        model_s: Tensor | None = None,
        return_intermediate: bool = False,
    ) -> Any:
        """Step with first order, as DDIM does; ``model_s`` is m at s where it is known.

        Returns:
            x_t, and with ``return_intermediate`` a dict of the predictions made.
        """
        model_s = self.model_fn(x, s) if model_s is None else model_s
        x_t = self._move(x, s, t, model_s)
        return (x_t, {"model_s": model_s}) if return_intermediate else x_t

    def singlestep_dpm_solver_second_update(
        self,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        r1: float | Tensor | None = 0.5,
        model_s: Tensor | None = None,
        return_intermediate: bool = False,
        solver_type: str = "dpm_solver",
    ) -> Any:
        """Step with second order by way of the time at share ``r1`` of h; returns as the first."""
        r1 = 0.5 if r1 is None else r1
        model_s = self.model_fn(x, s) if model_s is None else model_s
        s1 = self._between(s, t, r1)
        model_s1 = self.model_fn(self._move(x, s, s1, model_s), s1)
        x_t = self._second(x, s, t, model_s, (model_s1 - model_s) / r1, solver_type)
        known = {"model_s": model_s, "model_s1": model_s1}
        return (x_t, known) if return_intermediate else x_t

    def singlestep_dpm_solver_third_update(
        self,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        r1: float | Tensor | None = 1.0 / 3.0,
        r2: float | Tensor | None = 2.0 / 3.0,
        model_s: Tensor | None = None,
        model_s1: Tensor | None = None,
        return_intermediate: bool = False,
        solver_type: str = "dpm_solver",
    ) -> Any:
        """Step with third order by way of two times; returns as the first."""
        check_solver(solver_type)
        r1, r2 = 1.0 / 3.0 if r1 is None else r1, 2.0 / 3.0 if r2 is None else r2
        s1, s2 = self._between(s, t, r1), self._between(s, t, r2)
        model_s = self.model_fn(x, s) if model_s is None else model_s
        if model_s1 is None:
            model_s1 = self.model_fn(self._move(x, s, s1, model_s), s1)
        slope = (model_s1 - model_s) / r1
        model_s2 = self.model_fn(self._move(x, s, s2, model_s, r2 * slope), s2)
        slope2 = (model_s2 - model_s) / r2
        terms = [slope2]
        if solver_type == "taylor":
            terms = [(r2 * slope - r1 * slope2) / (r2 - r1), 2.0 * (slope2 - slope) / (r2 - r1)]
        x_t = self._move(x, s, t, model_s, *terms)
        known = {"model_s": model_s, "model_s1": model_s1, "model_s2": model_s2}
        return (x_t, known) if return_intermediate else x_t

    def multistep_dpm_solver_second_update(
        self,
        x: Tensor,
        model_prev_list: Sequence[Tensor],
        t_prev_list: Sequence[Tensor],
        t: Tensor,
        solver_type: str = "dpm_solver",
    ) -> Tensor:
        """Step with second order from the last of two times, whose m are known; oldest first."""
        ((_, slope),) = self._differences(model_prev_list[-2:], t_prev_list[-2:], t)
        return self._second(x, t_prev_list[-1], t, model_prev_list[-1], slope, solver_type)

    def multistep_dpm_solver_third_update(
        self,
        x: Tensor,
        model_prev_list: Sequence[Tensor],
        t_prev_list: Sequence[Tensor],
        t: Tensor,
        solver_type: str = "dpm_solver",
    ) -> Tensor:
        """Step with third order from the last of three times, whose m are known; oldest first."""
        check_solver(solver_type)
        differences = self._differences(model_prev_list[-3:], t_prev_list[-3:], t)
        (r0, slope), (r1, slope_before) = differences
        change = (slope - slope_before) / (r0 + r1)
        newest = model_prev_list[-1]
        return self._move(x, t_prev_list[-1], t, newest, slope + r0 * change, change)

    # What the steps are made of

    def _move(self, x: Tensor, s: Tensor, t: Tensor, *terms: Tensor) -> Tensor:
        """Return x_t of the file's formula; ``terms`` are m, D1 and D2 as far as there are."""
        process, s, t = self.noise_schedule, s.double(), t.double()
        u = process.marginal_lambda(t) - process.marginal_lambda(s)
        kept, gained = process.marginal_alpha, process.marginal_std
        if self.predict_x0:
            kept, gained, u = gained, kept, -u
        phi_1 = torch.expm1(u)
        phi_2 = phi_1 / u - 1.0
        phis = (phi_1, phi_2, phi_2 / u - 0.5)
        ratio, factor = (expand_dims(v, x.ndim).to(x) for v in (kept(t) / kept(s), gained(t)))
        total = sum(expand_dims(p, x.ndim).to(x) * m for p, m in zip(phis, terms, strict=False))
        return ratio * x - factor * total

    def _second(
        self, x: Tensor, s: Tensor, t: Tensor, m: Tensor, slope: Tensor, solver_type: str
    ) -> Tensor:
        check_solver(solver_type)
        if solver_type == "taylor":
            return self._move(x, s, t, m, slope)
        # As the papers have it: phi_1 / 2 in place of phi_2, which is near it.
        return self._move(x, s, t, m + 0.5 * slope)

    def _between(self, s: Tensor, t: Tensor, share: float | Tensor) -> Tensor:
        """Return the time at a share of the way from s to t in lambda, (B,)."""
        start, end = (self.noise_schedule.marginal_lambda(v.double()) for v in (s, t))
        return self.noise_schedule.inverse_lambda(start + share * (end - start)).to(s)

    def _differences(
        self, models: Sequence[Tensor], times: Sequence[Tensor], t: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Return each past step's length, as a share of the next one's, and the slope of m over it.

        The newest is first; slopes are per step to ``t``.
        """
        lambdas = [self.noise_schedule.marginal_lambda(v.double()) for v in (*times, t)]
        h = lambdas[-1] - lambdas[-2]
        found = []
        for i in reversed(range(1, len(models))):
            share = expand_dims((lambdas[i] - lambdas[i - 1]) / h, models[i].ndim).to(models[i])
            found.append((share, (models[i] - models[i - 1]) / share))
        return found


def check_solver(solver_type: str) -> None:
    """Check the name of an expansion.

    Raises:
        UserError: It is neither ``dpm_solver`` nor ``taylor``.
    """
    if solver_type not in ("dpm_solver", "taylor"):
        raise UserError(f"solver_type {solver_type!r} given; expected dpm_solver or taylor")

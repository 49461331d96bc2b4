"""DPM-Solver and DPM-Solver++ in all their ways, under the names of the reference's file.

Symbols as in ``solver_steps``. The sampler that programs use, in ``sampler``, needs none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.dpm_solver.noise_model import expand_dims, model_wrapper
from ldm.models.diffusion.dpm_solver.noise_schedule import NoiseScheduleVP
from ldm.models.diffusion.dpm_solver.solver_steps import SolverSteps

__all__ = ["DPM_Solver", "NoiseScheduleVP", "expand_dims", "model_wrapper"]

FEW_STEPS = 15
"""Below this many steps the last ones of a multistep solver are of lower order."""


class DPM_Solver(SolverSteps):
    """The solver of a model's probability flow.

    Args:
        model_fn: Predicts noise from x (B,C,h,w) and continuous times (B,): see ``model_wrapper``.
        noise_schedule: Its process.
        predict_x0: Solve for estimates of x0 (DPM-Solver++), not of noise (DPM-Solver).
        thresholding: Limit estimates of x0 to the range of pixels.
        max_val: That range, for ``thresholding``.
    """

    # Times

    def get_time_steps(
        self,
        skip_type: str,
        t_T: float,
        t_0: float,
        N: int,
        device: torch.device | str,  # noqa: N803
    ) -> Tensor:
        """Return N + 1 times from ``t_T`` to ``t_0``, evenly in what ``skip_type`` says.

        Args:
            skip_type: ``time_uniform``, ``time_quadratic`` (in the root of time) or ``logSNR``.

        Raises:
            UserError: Another ``skip_type``.
        """
        if skip_type == "time_uniform":
            return torch.linspace(t_T, t_0, N + 1).to(device)
        if skip_type == "time_quadratic":
            return torch.linspace(t_T**0.5, t_0**0.5, N + 1).square().to(device)
        if skip_type == "logSNR":
            ends = self.noise_schedule.marginal_lambda(torch.tensor([t_T, t_0]).double())
            lambdas = torch.linspace(*ends.tolist(), N + 1).double()
            return self.noise_schedule.inverse_lambda(lambdas).float().to(device)
        raise UserError(
            f"skip_type {skip_type!r} given; expected time_uniform, time_quadratic or logSNR"
        )

    def get_orders_and_timesteps_for_singlestep_solver(
        self,
        steps: int,
        order: int,
        skip_type: str,
        t_T: float,  # noqa: N803
        t_0: float,
        device: torch.device | str,
    ) -> tuple[Tensor, list[int]]:
        """Return the times between single steps, and each step's order, for ``steps`` model calls.

        arXiv:2206.00927, appendix B, "DPM-Solver-fast": as many steps of ``order`` as fit, and what
        is left in steps of lower order; of order 3 the last step is not one.
        """
        _check_order(order)
        whole, rest = divmod(steps, order)
        if order == 3 and rest == 0:
            orders = [3] * (whole - 1) + [2, 1]
        else:
            orders = [order] * whole + [rest] * (rest > 0)
        if skip_type == "logSNR":
            return self.get_time_steps(skip_type, t_T, t_0, len(orders), device), orders
        times = self.get_time_steps(skip_type, t_T, t_0, steps, device)
        return times[torch.cumsum(torch.tensor([0, *orders]), dim=0).to(device)], orders

    # Steps of a given order from times s to t, each (B,)

    def singlestep_dpm_solver_update(
        self,
        x: Tensor,
        s: Tensor,
        t: Tensor,
        order: int,
        return_intermediate: bool = False,
        solver_type: str = "dpm_solver",
        r1: float | Tensor | None = None,
        r2: float | Tensor | None = None,
    ) -> Any:
        """Step from s to t with ``order`` calls of the model; returns as the first update."""
        _check_order(order)
        if order == 1:
            return self.dpm_solver_first_update(x, s, t, return_intermediate=return_intermediate)
        options = {"return_intermediate": return_intermediate, "solver_type": solver_type}
        if order == 2:
            return self.singlestep_dpm_solver_second_update(x, s, t, r1=r1, **options)
        return self.singlestep_dpm_solver_third_update(x, s, t, r1=r1, r2=r2, **options)

    def multistep_dpm_solver_update(
        self,
        x: Tensor,
        model_prev_list: Sequence[Tensor],
        t_prev_list: Sequence[Tensor],
        t: Tensor,
        order: int,
        solver_type: str = "dpm_solver",
    ) -> Tensor:
        """Step to t from the last ``order`` times, whose predictions are known; oldest first."""
        _check_order(order)
        if order == 1:
            return self.dpm_solver_first_update(x, t_prev_list[-1], t, model_s=model_prev_list[-1])
        rules = {
            2: self.multistep_dpm_solver_second_update,
            3: self.multistep_dpm_solver_third_update,
        }
        return rules[order](x, model_prev_list, t_prev_list, t, solver_type=solver_type)

    # All the way

    @torch.no_grad()
    def sample(
        self,
        x: Tensor,
        steps: int = 20,
        t_start: float | None = None,
        t_end: float | None = None,
        order: int = 3,
        skip_type: str = "time_uniform",
        method: str = "singlestep",
        lower_order_final: bool = True,
        denoise_to_zero: bool = False,
        solver_type: str = "dpm_solver",
        atol: float = 0.0078,
        rtol: float = 0.05,
    ) -> Tensor:
        """Solve from ``t_start`` to ``t_end``.

        Args:
            x: Sample (B,C,h,w) at ``t_start``.
            steps: Calls of the model; ``adaptive`` takes as many as it needs.
            t_start: The schedule's noisy end by default.
            t_end: 1 / total_N by default.
            order: 1 to 3.
            skip_type: As ``get_time_steps``.
            method: ``multistep``, ``singlestep``, ``singlestep_fixed`` (one order throughout) or
                ``adaptive``.
            lower_order_final: End a multistep walk of fewer than 15 steps with lower orders.
            denoise_to_zero: End with the estimate of x0 there, one more call.
            solver_type: ``dpm_solver`` or ``taylor``.
            atol: Absolute tolerance of ``adaptive``.
            rtol: Relative tolerance of ``adaptive``.

        Returns:
            Sample (B,C,h,w) at ``t_end``.

        Raises:
            UserError: Another method, or an order that it does not have.
        """
        t_0 = 1.0 / self.noise_schedule.total_N if t_end is None else t_end
        t_T = self.noise_schedule.T if t_start is None else t_start  # noqa: N806
        if method == "adaptive":
            x = self.dpm_solver_adaptive(
                x, order, t_T, t_0, atol=atol, rtol=rtol, solver_type=solver_type
            )
        elif method == "multistep":
            times = self.get_time_steps(skip_type, t_T, t_0, steps, x.device)
            lower = lower_order_final and steps < FEW_STEPS
            x = self._multistep(x, times, order, lower, solver_type)
        elif method == "singlestep":
            find = self.get_orders_and_timesteps_for_singlestep_solver
            times, orders = find(steps, order, skip_type, t_T, t_0, x.device)
            x = self._single_steps(x, times, orders, skip_type, solver_type)
        elif method == "singlestep_fixed":
            times = self.get_time_steps(skip_type, t_T, t_0, steps // order, x.device)
            orders = [order] * (steps // order)
            x = self._single_steps(x, times, orders, skip_type, solver_type)
        else:
            raise UserError(
                f"method {method!r} given; expected multistep, singlestep, singlestep_fixed or "
                "adaptive"
            )
        return self.denoise_to_zero_fn(x, x.new_full((len(x),), t_0)) if denoise_to_zero else x

    def _multistep(
        self, x: Tensor, times: Tensor, order: int, lower_last: bool, solver_type: str
    ) -> Tensor:
        """Step along ``times`` (S + 1,); the first steps, or also the last, are of lower order."""
        steps = len(times) - 1
        if steps < order:
            raise UserError(f"{steps} steps of order {order} given; expected at least {order}")
        models: list[Tensor] = []
        passed: list[Tensor] = []
        for i in range(steps):
            passed.append(times[i].expand(len(x)))
            models.append(self.model_fn(x, passed[-1]))
            del models[:-order], passed[:-order]
            now = min(len(models), steps - i) if lower_last else len(models)
            t = times[i + 1].expand(len(x))
            x = self.multistep_dpm_solver_update(x, models, passed, t, now, solver_type)
        return x

    def _single_steps(
        self, x: Tensor, times: Tensor, orders: Sequence[int], skip_type: str, solver_type: str
    ) -> Tensor:
        """Step along ``times`` (S + 1,) with an order for each step."""
        for start, end, order in zip(times[:-1], times[1:], orders, strict=True):
            inner = self.get_time_steps(skip_type, start.item(), end.item(), order, x.device)
            lambdas = self.noise_schedule.marginal_lambda(inner.double())
            shares = ((lambdas[1:-1] - lambdas[0]) / (lambdas[-1] - lambdas[0])).tolist()
            r1, r2 = (*shares, None, None)[:2]
            s, t = start.expand(len(x)), end.expand(len(x))
            x = self.singlestep_dpm_solver_update(
                x, s, t, order, solver_type=solver_type, r1=r1, r2=r2
            )
        return x

    @torch.no_grad()
    def dpm_solver_adaptive(
        self,
        x: Tensor,
        order: int,
        t_T: float,  # noqa: N803
        t_0: float,
        h_init: float = 0.05,
        atol: float = 0.0078,
        rtol: float = 0.05,
        theta: float = 0.9,
        t_err: float = 1e-5,
        solver_type: str = "dpm_solver",
    ) -> Tensor:
        """Solve with steps whose length in lambda follows an estimate of the error.

        arXiv:2206.00927, appendix C, "DPM-Solver-12" and "-23": the error of a step is its distance
        from a step of one order less that shares its predictions.

        Args:
            x: Sample (B,C,h,w) at ``t_T``.
            order: 2 or 3, the higher order.
            h_init: Length of the first step.
            atol: Absolute tolerance; 0.0078 is one of 256 levels of pixels in [-1, 1].
            rtol: Tolerance relative to the sample.
            theta: Share of the longest step that the error would allow.
            t_err: How near to ``t_0`` is there.

        Raises:
            UserError: Another order.
        """
        if order not in (2, 3):
            raise UserError(f"order {order} with method adaptive given; expected 2 or 3")
        process = self.noise_schedule
        s, end = x.new_full((len(x),), t_T), x.new_full((len(x),), t_0)
        h, before = torch.full_like(s, h_init), x
        while (s - end).abs().mean() > t_err:
            t = process.inverse_lambda(process.marginal_lambda(s) + h)
            lower, higher = self._pair(x, s, t, order, solver_type)
            allowed = (rtol * torch.maximum(lower.abs(), before.abs())).clamp(min=atol)
            # The root mean square of each sample, of which the largest counts.
            error = ((higher - lower) / allowed).square().flatten(1).mean(1).sqrt().max()
            if error <= 1.0:
                x, s, before = higher, t, lower
            left = process.marginal_lambda(end) - process.marginal_lambda(s)
            h = torch.minimum(theta * h * error ** (-1.0 / order), left)
        return x

    def _pair(
        self, x: Tensor, s: Tensor, t: Tensor, order: int, solver_type: str
    ) -> tuple[Tensor, Tensor]:
        """Return x_t of a step of one order less, and of one of ``order`` that uses its work."""
        if order == 2:
            lower, known = self.dpm_solver_first_update(x, s, t, return_intermediate=True)
            rule, shares = self.singlestep_dpm_solver_second_update, {"r1": 0.5}
        else:
            lower, known = self.singlestep_dpm_solver_second_update(
                x, s, t, r1=1.0 / 3.0, return_intermediate=True, solver_type=solver_type
            )
            rule, shares = self.singlestep_dpm_solver_third_update, {"r1": 1 / 3, "r2": 2 / 3}
        return lower, rule(x, s, t, solver_type=solver_type, **shares, **known)


def _check_order(order: int) -> None:
    if order not in (1, 2, 3):
        raise UserError(f"order {order} given; expected 1, 2 or 3")

"""The noise process as DPM-Solver's own code knows it: functions of tensors of times.

Symbols as in ``ldm.process.log_snr``, which does the arithmetic, in float64 on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.process.log_snr import ContinuousSchedule, CosineProcess, LinearProcess, Process

COSINE_END = 0.9946
"""Where the cosine schedule ends: at 1 there is nothing of the clean sample, and lambda no end."""


class NoiseScheduleVP:
    """A process that keeps variances. Results have the dtype and device of their argument.

    Args:
        schedule: ``discrete`` for a model of training steps, whose times are 1/T, ..., 1;
            ``linear`` or ``cosine`` for a model of continuous time.
        betas: Of a discrete schedule (T,).
        alphas_cumprod: The same schedule as its product (T,); one of the two is needed.
        continuous_beta_0: Rate of the linear process at time 0.
        continuous_beta_1: The same at time 1.

    Attributes:
        total_N: T; 1000 in continuous time.
        T: Time of pure noise.

    Raises:
        UserError: Another schedule, or a discrete one without its numbers.
    """

    def __init__(
        self,
        schedule: str = "discrete",
        betas: Tensor | None = None,
        alphas_cumprod: Tensor | None = None,
        continuous_beta_0: float = 0.1,
        continuous_beta_1: float = 20.0,
    ):
        self.schedule = schedule
        self.T = COSINE_END if schedule == "cosine" else 1.0
        self.total_N = 1000
        self.beta_0, self.beta_1 = continuous_beta_0, continuous_beta_1
        self._process = self._make(betas, alphas_cumprod)
        if isinstance(self._process, ContinuousSchedule):
            self.total_N = self._process.num_timesteps
            self.t_array = torch.as_tensor(self._process.times)[None].float()
            self.log_alpha_array = torch.as_tensor(self._process.log_alphas)[None].float()

    def _make(self, betas: Tensor | None, alphas_cumprod: Tensor | None) -> Process:
        if self.schedule == "linear":
            return LinearProcess(self.beta_0, self.beta_1)
        if self.schedule == "cosine":
            return CosineProcess()
        if self.schedule != "discrete":
            raise UserError(
                f"noise schedule {self.schedule!r} given; expected discrete, linear or cosine"
            )
        if betas is not None:
            return ContinuousSchedule(np.cumprod(1.0 - _to_array(betas)))
        if alphas_cumprod is None:
            raise UserError("a discrete noise schedule given without betas; give alphas_cumprod")
        return ContinuousSchedule(_to_array(alphas_cumprod))

    def marginal_log_mean_coeff(self, t: Tensor) -> Tensor:
        """Return log alpha_t of times (B,)."""
        return self._of(self._process.log_alpha, t)

    def marginal_alpha(self, t: Tensor) -> Tensor:
        """Return alpha_t of times (B,)."""
        return self._of(self._process.alpha, t)

    def marginal_std(self, t: Tensor) -> Tensor:
        """Return sigma_t of times (B,)."""
        return self._of(self._process.sigma, t)

    def marginal_lambda(self, t: Tensor) -> Tensor:
        """Return lambda_t of times (B,)."""
        return self._of(self._process.lam, t)

    def inverse_lambda(self, lamb: Tensor) -> Tensor:
        """Return the times of lambda_t (B,)."""
        return self._of(self._process.time, lamb)

    def _of(self, function: Callable[[np.ndarray], np.ndarray], values: Tensor) -> Tensor:
        # The reference's discrete schedule flattens, also a single number.
        flat = values.reshape(-1) if self.schedule == "discrete" else values
        return torch.as_tensor(function(_to_array(flat))).to(values)


def _to_array(values: Tensor) -> np.ndarray:
    return torch.as_tensor(values).detach().double().cpu().numpy()

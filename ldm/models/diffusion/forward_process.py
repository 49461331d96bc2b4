"""The forward process as part of a model: its schedule in buffers, and noising by it.

Shapes: B batch, T training steps; samples (B, ...) of any shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.process import prediction
from ldm.process.gaussian import extract_into_tensor, kl_standard_normal
from ldm.process.prediction import Parameterization
from ldm.process.schedules import diffusion_coefficients, make_beta_schedule


class ForwardProcess(nn.Module):
    """Base of diffusion models: a base class, for checkpoints have the buffers at their top.

    Attributes:
        v_posterior: Weight of beta_t in the posterior variance; set before ``register_schedule``.
        num_timesteps: T.
        coefficients: Those of ``diffusion_coefficients`` in float64, each (T,). The buffers have
            the same names and are float32.
    """

    v_posterior: float = 0.0

    def __init__(self) -> None:
        super().__init__()
        # Here and not in register_schedule: a subclass may override that without calling it.
        self._coefficients: dict[str, np.ndarray] | None = None
        self._step_tables: dict[str, tuple[tuple, Tensor]] = {}

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a buffer; ``lvlb_weights``, a property here, may be one as in the reference."""
        if name != "lvlb_weights":
            super().register_buffer(name, tensor, persistent)
            return
        self._buffers[name] = tensor  # torch refuses the name of an attribute that exists
        if not persistent:
            self._non_persistent_buffers_set.add(name)

    @property
    def coefficients(self) -> dict[str, np.ndarray]:
        """The schedule in float64; a subclass's own schedule has it from its float32 betas."""
        if self._coefficients is not None:
            return self._coefficients
        return diffusion_coefficients(self.betas.double().cpu().numpy(), self.v_posterior)

    def register_schedule(
        self,
        given_betas: Sequence[float] | None = None,
        beta_schedule: str = "linear",
        timesteps: int = 1000,
        linear_start: float = 1e-4,
        linear_end: float = 2e-2,
        cosine_s: float = 8e-3,
    ) -> None:
        """Make the schedule's buffers, from ``given_betas`` (T,) or by ``make_beta_schedule``."""
        self.linear_start, self.linear_end = linear_start, linear_end
        if given_betas is None:
            given_betas = make_beta_schedule(
                beta_schedule, timesteps, linear_start, linear_end, cosine_s
            )
        self._coefficients = diffusion_coefficients(given_betas, self.v_posterior)
        self.num_timesteps = len(self._coefficients["betas"])
        for name, table in self._coefficients.items():
            # Explicit device: a model built on meta still has its schedule.
            self.register_buffer(name, torch.tensor(table, dtype=torch.float32, device="cpu"))

    @property
    def device(self) -> torch.device:
        """The device of the schedule."""
        return self.betas.device

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Noise clean samples (B, ...) to steps t (B,): DDPM Eq. 4."""
        noise = torch.randn_like(x_start) if noise is None else noise
        a, s = self.mix(t, x_start.shape)
        return a * x_start + s * noise

    def forward_diffusion(
        self, x0: Tensor, t: int | Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Noise clean samples to a step; return the noise too, which ``q_sample`` keeps to itself.

        Args:
            x0: Clean samples (B, ...), latents or pictures; left as they are.
            t: The step, 0 ... T-1: one for all samples, or one for each (B,).
            noise: Standard normal numbers of x0's shape; by default from torch's global stream.

        Returns:
            x = a x0 + s eps, DDPM Eq. 4, and eps, each (B, ...).

        Raises:
            UserError: The schedule has no such step.
        """
        eps = torch.randn_like(x0) if noise is None else noise
        return self.q_sample(x0, self.times_at(t, x0), eps), eps

    def times_at(self, t: int | Tensor, x: Tensor) -> Tensor:
        """Return a step, or one for each sample, as the model takes it: (B,), beside ``x``.

        Raises:
            UserError: The schedule has no such step.
        """
        times = torch.as_tensor(t, dtype=torch.long, device=x.device).expand(len(x))
        if ((times < 0) | (times >= self.num_timesteps)).any():
            raise UserError(
                f"step {t} was given; expected 0 (clean) to {self.num_timesteps - 1} (noise); "
                "choose a step between"
            )
        return times

    def mix(self, t: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Return how much of x0 and of eps is in a sample at t, shaped to multiply ``shape``."""
        tables = (self.sqrt_alphas_cumprod, self.sqrt_one_minus_alphas_cumprod)
        a, s = (extract_into_tensor(table, t, shape) for table in tables)
        return a, s

    def q_mean_variance(self, x_start: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q(x_t | x_0), DDPM Eq. 4: mean (B, ...), variance (B, 1, ...), its logarithm."""
        mean = self._at(self.sqrt_alphas_cumprod, t, x_start) * x_start
        variance = self._at(1.0 - self.alphas_cumprod, t, x_start)
        return mean, variance, self._at(self.log_one_minus_alphas_cumprod, t, x_start)

    def q_posterior(self, x_start: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q(x_{t-1} | x_t, x_0), DDPM Eq. 6 and 7.

        Args:
            x_start: Clean samples (B, ...), or estimates of them.
            x_t: The samples at t (B, ...).
            t: Steps (B,), 0 ... T-1.

        Returns:
            Mean (B, ...), variance (B, 1, ...), and its logarithm, which is cut at step 0.
        """
        mean = self._at(self.posterior_mean_coef1, t, x_t) * x_start
        mean = mean + self._at(self.posterior_mean_coef2, t, x_t) * x_t
        variance = self._at(self.posterior_variance, t, x_t)
        return mean, variance, self._at(self.posterior_log_variance_clipped, t, x_t)

    def predict_start_from_noise(self, x_t: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the x0 that noise (B, ...) in x_t means: DDPM Eq. 15.

        By the tables and not by ``ldm.process.prediction``, so that it rounds as the reference
        does, and a subclass's own tables are used.
        """
        a = self._at(self.sqrt_recip_alphas_cumprod, t, x_t)
        return a * x_t - self._at(self.sqrt_recipm1_alphas_cumprod, t, x_t) * noise

    def _predict_eps_from_xstart(self, x_t: Tensor, t: Tensor, pred_xstart: Tensor) -> Tensor:
        """Return the noise in x_t (B, ...) if ``pred_xstart`` is clean: the other way round."""
        rest = self._at(self.sqrt_recip_alphas_cumprod, t, x_t) * x_t - pred_xstart
        return rest / self._at(self.sqrt_recipm1_alphas_cumprod, t, x_t)

    def predict_start_from_z_and_v(self, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """Return the x0 that a prediction v (B, ...) at x_t means."""
        return prediction.to_x0(v, x_t, *self.mix(t, x_t.shape), "v")

    def predict_eps_from_z_and_v(self, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """Return the noise that a prediction v (B, ...) at x_t means."""
        return prediction.to_eps(v, x_t, *self.mix(t, x_t.shape), "v")

    def get_v(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return v (B, ...) of clean samples x and their noise."""
        return prediction.target(x, noise, *self.mix(t, x.shape), "v")

    def _prior_bpd(self, x_start: Tensor) -> Tensor:
        """Return KL(q(x_T | x_0) || N(0, 1)), the bound's L_T (DDPM Eq. 5): (B,), bits/dim."""
        last = torch.full((len(x_start),), self.num_timesteps - 1, device=x_start.device)
        mean, _, log_variance = self.q_mean_variance(x_start, last)
        return kl_standard_normal(mean, log_variance) / (x_start[0].numel() * math.log(2.0))

    @staticmethod
    def _at(table: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return extract_into_tensor(table, t, x.shape)

    def step_table(
        self,
        name: str,
        rule: Callable[[Mapping[str, np.ndarray], Parameterization], np.ndarray],
        kind: Parameterization,
    ) -> Tensor:
        """Return ``rule(coefficients, kind)`` (T,), beside the schedule and of its dtype.

        It is computed once and kept under ``name`` until it is asked for another rule or kind, or
        the schedule is another or moves. Rules are told apart by identity, and are not changed in
        place. A buffer would make drawing pay for what only training needs.
        """
        recipe = (rule, kind, self.betas)
        kept = self._step_tables.get(name, ((None, None, None), None))[0]
        if any(old is not new for old, new in zip(kept, recipe, strict=True)):
            exact = rule(self.coefficients, kind)
            table = torch.tensor(exact, dtype=torch.float32, device="cpu").to(self.betas)
            self._step_tables[name] = recipe, table
        return self._step_tables[name][1]

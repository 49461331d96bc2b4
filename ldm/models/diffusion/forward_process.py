"""The forward process as part of a model: its schedule in buffers, and noising by it.

Shapes: B batch, T training steps; samples (B, ...) of any shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ldm.process.gaussian import extract_into_tensor
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

    def mix(self, t: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Return how much of x0 and of eps is in a sample at t, shaped to multiply ``shape``."""
        tables = (self.sqrt_alphas_cumprod, self.sqrt_one_minus_alphas_cumprod)
        a, s = (extract_into_tensor(table, t, shape) for table in tables)
        return a, s

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

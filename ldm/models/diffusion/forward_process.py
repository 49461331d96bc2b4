"""The forward process as part of a model: its schedule in buffers, and noising by it.

Shapes: B batch, T training steps; samples (B, ...) of any shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ldm.process import weighting
from ldm.process.gaussian import extract_into_tensor
from ldm.process.prediction import Parameterization
from ldm.process.schedules import diffusion_coefficients


class ForwardProcess(nn.Module):
    """Base of diffusion models: a base class, for checkpoints have the buffers at their top."""

    def _register_schedule(
        self,
        betas: Sequence[float],
        v_posterior: float,
        kind: Parameterization,
        snr_gamma: float | None,
    ) -> None:
        """Make the schedule's buffers, those of ``diffusion_coefficients`` and the loss weights."""
        tables = diffusion_coefficients(betas, v_posterior)
        self.num_timesteps, self.v_posterior = len(tables["betas"]), v_posterior
        tables["lvlb_weights"] = weighting.variational_weights(tables, kind)
        tables["snr_weights"] = weighting.min_snr_weights(tables["alphas_cumprod"], snr_gamma, kind)
        for name, table in tables.items():
            # Explicit device: a model built on meta still has its schedule.
            values = torch.tensor(table, dtype=torch.float32, device="cpu")
            self.register_buffer(name, values, persistent=not name.endswith("_weights"))

    @property
    def device(self) -> torch.device:
        """The device of the schedule."""
        return self.betas.device

    def q_sample(self, x_start: Tensor, t: Tensor, noise: Tensor | None = None) -> Tensor:
        """Noise clean samples (B, ...) to steps t (B,): DDPM Eq. 4."""
        noise = torch.randn_like(x_start) if noise is None else noise
        a, s = self._mix(t, x_start.shape)
        return a * x_start + s * noise

    def _mix(self, t: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Return how much of x0 and of eps is in a sample at t, shaped to multiply ``shape``."""
        tables = (self.sqrt_alphas_cumprod, self.sqrt_one_minus_alphas_cumprod)
        a, s = (extract_into_tensor(table, t, shape) for table in tables)
        return a, s

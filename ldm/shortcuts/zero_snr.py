"""A model as samplers see it, whose schedule ends in pure noise: arXiv:2305.08891, section 3.1.

Shapes: T training steps; B rows, C channels, h w latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.denoiser import times_of
from ldm.process.schedules import with_zero_end
from ldm.types import EpsModel


class ZeroTerminalSnr:
    """A model under another schedule; all but the schedule is the model's own.

    Args:
        model: Predicts v: at a = 0 it says what x0 is, where eps is x itself and says nothing.

    Attributes:
        alphas_cumprod: The rescaled schedule (T,), whose last entry is 0.
        alphas_cumprod_prev: The same one step cleaner.
        betas: Its betas; the last is 1.

    Raises:
        UserError: The model predicts something else.
    """

    def __init__(self, model: EpsModel) -> None:
        if model.parameterization != "v":
            raise UserError(
                f"--zero_terminal_snr was given with a model that predicts "
                f"{model.parameterization}; expected one that predicts v: in pure noise a "
                "prediction of the noise says nothing of the picture; leave it out"
            )
        self._model = model
        cumprod = with_zero_end(model.alphas_cumprod.detach().double().cpu().numpy())
        whole = torch.from_numpy(cumprod)
        before = torch.cat([torch.ones(1, dtype=torch.float64), whole[:-1]])
        given = model.alphas_cumprod
        self.alphas_cumprod, self.alphas_cumprod_prev = whole.to(given), before.to(given)
        self.betas = (1.0 - whole / before).to(given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def q_sample(self, x_start: Tensor, t: Tensor | int, noise: Tensor | None = None) -> Tensor:
        """Noise clean samples (B, C, h, w) to the steps t (B,)."""
        noise = torch.randn_like(x_start) if noise is None else noise
        alpha = self.alphas_cumprod[times_of(x_start, t)].reshape(-1, 1, 1, 1).to(x_start)
        return alpha.sqrt() * x_start + (1.0 - alpha).sqrt() * noise

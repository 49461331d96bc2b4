"""The tables of samplers that step at training steps, under the names of the reference.

Shapes: T training steps, S the chosen ones, clean end first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm.modules.diffusionmodules.util import make_ddim_sampling_parameters
from ldm.types import EpsModel

# The attributes that hold the columns of ``StepTable``, for chosen steps and for all of training.
CHOSEN = ("ddim_alphas", "ddim_alphas_prev", "ddim_sigmas", "ddim_sqrt_one_minus_alphas")
ORIGINAL = (
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "ddim_sigmas_for_original_num_steps",
    "sqrt_one_minus_alphas_cumprod",
)


@dataclass(frozen=True)
class StepTable:
    """The numbers of each step (S,), clean end first, on the CPU in float32.

    Attributes:
        alphas: alphas_cumprod at the steps.
        alphas_prev: The same one step cleaner.
        sigmas: Noise added by each step.
        sqrt_one_minus_alphas: Of ``alphas``.
    """

    alphas: Tensor
    alphas_prev: Tensor
    sigmas: Tensor
    sqrt_one_minus_alphas: Tensor


def process_tables(model: EpsModel) -> dict[str, Tensor]:
    """Return a model's noise process (T,) in float32 on the CPU.

    What the model does not have is computed from its alphas_cumprod.
    """
    cumprod = _float(model.alphas_cumprod)
    before = torch.cat([torch.ones(1), cumprod[:-1]])
    own = {"betas": 1.0 - cumprod / before, "alphas_cumprod_prev": before}
    for name in own:
        given = getattr(model, name, None)
        if given is not None and len(given) == len(cumprod):
            own[name] = _float(given)
    return {
        **own,
        "alphas_cumprod": cumprod,
        "sqrt_alphas_cumprod": cumprod.sqrt(),
        "sqrt_one_minus_alphas_cumprod": (1.0 - cumprod).sqrt(),
        "log_one_minus_alphas_cumprod": (1.0 - cumprod).log(),
        "sqrt_recip_alphas_cumprod": (1.0 / cumprod).sqrt(),
        "sqrt_recipm1_alphas_cumprod": (1.0 / cumprod - 1.0).sqrt(),
    }


def schedule_tables(model: EpsModel, timesteps: np.ndarray, eta: float) -> dict[str, Any]:
    """Return ``process_tables`` and DDIM's tables of chosen steps (S,).

    The kinds are the reference's: ddim_sigmas is a float64 tensor, ddim_alphas a float32 tensor and
    ddim_alphas_prev a float64 array.
    """
    tables = process_tables(model)
    cumprod, before = tables["alphas_cumprod"], tables["alphas_cumprod_prev"]
    sigmas, alphas, alphas_prev = make_ddim_sampling_parameters(
        alphacums=cumprod, ddim_timesteps=timesteps, eta=eta, verbose=False
    )
    variance = (1 - before) / (1 - cumprod) * (1 - cumprod / before)
    return {
        **tables,
        "ddim_sigmas": sigmas,
        "ddim_alphas": alphas,
        "ddim_alphas_prev": alphas_prev,
        "ddim_sqrt_one_minus_alphas": (1.0 - alphas).sqrt(),
        "ddim_sigmas_for_original_num_steps": eta * variance.sqrt(),
    }


def _float(table: Tensor) -> Tensor:
    return table.detach().float().cpu()

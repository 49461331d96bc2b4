"""Building blocks of the networks, and the schedule helpers that CompVis code expects here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from ldm.building import place
from ldm.lazy import lazy_exports
from ldm.process.gaussian import extract_into_tensor
from ldm.process.schedules import make_beta_schedule
from ldm.process.spacing import make_timesteps
from ldm.util import instantiate_from_config

# What CompVis's file defines or imports besides.
ELSEWHERE = {
    "CheckpointFunction": "ldm.modules.diffusionmodules.recompute",
    "mean_flat": "ldm.util",
    "os": "os:",
    "repeat": "einops",
}
__all__ = [
    "GroupNorm32",
    "HybridConditioner",
    "SiLU",
    "avg_pool_nd",
    "betas_for_alpha_bar",
    "checkpoint",
    "conv_nd",
    "extract_into_tensor",
    "instantiate_from_config",
    "linear",
    "make_beta_schedule",
    "make_ddim_sampling_parameters",
    "make_ddim_timesteps",
    "noise_like",
    "normalization",
    "scale_module",
    "timestep_embedding",
    "zero_module",
    *ELSEWHERE,
]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)


class HybridConditioner(nn.Module):
    """Two conditioners side by side: one for maps, one for tokens.

    Args:
        c_concat_config: ``target`` / ``params`` of the first.
        c_crossattn_config: The same of the second.
    """

    def __init__(self, c_concat_config: Mapping[str, Any], c_crossattn_config: Mapping[str, Any]):
        super().__init__()
        with place("c_concat_config"):
            self.concat_conditioner = instantiate_from_config(c_concat_config)
        with place("c_crossattn_config"):
            self.crossattn_conditioner = instantiate_from_config(c_crossattn_config)

    def forward(self, c_concat: Any, c_crossattn: Any) -> dict[str, list[Tensor]]:
        """Return what ``apply_model`` takes for a hybrid model."""
        return {
            "c_concat": [self.concat_conditioner(c_concat)],
            "c_crossattn": [self.crossattn_conditioner(c_crossattn)],
        }


def conv_nd(dims: int, *args: Any, **kwargs: Any) -> nn.Module:
    """Return a convolution over ``dims`` (1, 2 or 3) dimensions."""
    return {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims](*args, **kwargs)


def avg_pool_nd(dims: int, *args: Any, **kwargs: Any) -> nn.Module:
    """Return average pooling over ``dims`` (1, 2 or 3) dimensions."""
    return {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[dims](*args, **kwargs)


def linear(*args: Any, **kwargs: Any) -> nn.Linear:
    """Return a Linear layer."""
    return nn.Linear(*args, **kwargs)


def zero_module(module: nn.Module) -> nn.Module:
    """Set every parameter of ``module`` to zero and return it."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def scale_module(module: nn.Module, scale: float) -> nn.Module:
    """Multiply every parameter of ``module`` by ``scale`` in place and return it."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(scale)
    return module


class SiLU(nn.Module):
    """x sigmoid(x): arXiv:1710.05941."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(x)


class GroupNorm32(nn.GroupNorm):
    """GroupNorm whose result has its input's dtype.

    torch accumulates the statistics of half inputs in float32, as the reference does by casting;
    autocast returns float32, which is cast back here.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


def normalization(channels: int) -> GroupNorm32:
    """Return the UNet's norm: 32 groups, eps 1e-5."""
    return GroupNorm32(32, channels)


def checkpoint(
    func: Callable,
    inputs: Sequence[Any],
    params: Any = None,  # noqa: ARG001 - kept for CompVis
    flag: bool = True,
) -> Any:
    """Call ``func(*inputs)``, recomputing it in the backward pass when ``flag`` is set.

    Outside training this is the plain call. ``params``, the parameters that ``func`` uses, are
    found without being told; the reference needs them.
    """
    if flag and torch.is_grad_enabled():
        return torch.utils.checkpoint.checkpoint(func, *inputs, use_reentrant=False)
    return func(*inputs)


def timestep_embedding(
    timesteps: Tensor, dim: int, max_period: float = 10000, repeat_only: bool = False
) -> Tensor:
    """Embed steps as [cos, sin] waves: arXiv:1706.03762, section 3.5, cosine half first.

    Args:
        timesteps: Steps (B,), integers or not.
        dim: Width D.
        max_period: Longest period, in steps (over 2 pi).
        repeat_only: Repeat the number itself in place of waves.

    Returns:
        Float32 tensor (B, D).
    """
    if repeat_only:
        return timesteps.float()[:, None].repeat(1, dim)
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps[:, None].float() * torch.exp(-math.log(max_period) * exponents)
    waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return nn.functional.pad(waves, (0, dim % 2))


def betas_for_alpha_bar(
    num_diffusion_timesteps: int, alpha_bar: Callable[[float], float], max_beta: float = 0.999
) -> np.ndarray:
    """Return betas (T,) in float64 whose products 1 - beta follow a curve: arXiv:2102.09672, 3.2.

    Args:
        num_diffusion_timesteps: T.
        alpha_bar: alphas_cumprod as a function of t / T, in [0, 1].
        max_beta: Upper limit, which keeps the end of the curve from a beta of 1.
    """
    times = np.arange(num_diffusion_timesteps + 1) / num_diffusion_timesteps
    curve = np.array([alpha_bar(t) for t in times], dtype=np.float64)
    return np.minimum(1 - curve[1:] / curve[:-1], max_beta)


def make_ddim_timesteps(
    ddim_discr_method: str,
    num_ddim_timesteps: int,
    num_ddpm_timesteps: int,
    verbose: bool = True,  # noqa: ARG001 - kept for CompVis
) -> np.ndarray:
    """Return the timesteps of ``ldm.process.spacing`` under CompVis's argument names."""
    return make_timesteps(ddim_discr_method, num_ddim_timesteps, num_ddpm_timesteps)


def make_ddim_sampling_parameters(
    alphacums: np.ndarray | Tensor,
    ddim_timesteps: np.ndarray,
    eta: float,
    verbose: bool = True,  # noqa: ARG001 - kept for CompVis
) -> tuple[Any, Any, np.ndarray]:
    """Return sigmas, alphas and previous alphas of DDIM: arXiv:2010.02502, Eq. 16.

    Args:
        alphacums: alphas_cumprod (T,).
        ddim_timesteps: Steps (S,) that never fall.
        eta: 0 for DDIM, 1 for DDPM's variance.

    Returns:
        Arrays (S,); for a tensor, as in the reference, the sigmas are a tensor in float64 on the
        CPU, the alphas a tensor of its own kind, and the previous alphas an array in float64.
    """
    given = alphacums
    alphacums = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    alphas = alphacums[ddim_timesteps]
    previous = np.append(alphacums[0], alphacums[ddim_timesteps[:-1]]).astype(np.float64)
    sigmas = eta * np.sqrt((1 - previous) / (1 - alphas) * (1 - alphas / previous))
    if isinstance(given, Tensor):
        return torch.as_tensor(sigmas), given[ddim_timesteps], previous
    return sigmas, alphas, previous


def noise_like(shape: Sequence[int], device: torch.device | str, repeat: bool = False) -> Tensor:
    """Draw noise from the global generator; ``repeat`` gives every row the first one's."""
    if not repeat:
        return torch.randn(tuple(shape), device=device)
    first = torch.randn((1, *shape[1:]), device=device)
    return first.repeat(shape[0], *((1,) * (len(shape) - 1)))

"""How often each step is drawn in training.

A density is called with a count, with T and with a device; it returns that many steps in 0 ... T-1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ldm.process.weighting import check_positive


@dataclass(frozen=True)
class Uniform:
    """Draw all steps alike: DDPM, arXiv:2006.11239, algorithm 1."""

    def __call__(self, count: int, num_timesteps: int, device: torch.device | str) -> Tensor:
        return torch.randint(0, num_timesteps, (count,), device=device)


@dataclass(frozen=True)
class LogitNormal:
    """Draw T sigmoid(z), z normal: arXiv:2403.03206, section 3.1.

    Either end, where a loss is large but teaches little, is rare.

    Args:
        mean: Of z; above 0 favours noisy steps.
        std: Standard deviation of z, above 0.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check_positive("std", self.std)

    def __call__(self, count: int, num_timesteps: int, device: torch.device | str) -> Tensor:
        z = self.mean + self.std * torch.randn(count, device=device)
        return (torch.sigmoid(z) * num_timesteps).long().clamp_max(num_timesteps - 1)

"""What the training methods of all models share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ldm.util import instantiate_from_config


def pictures_from(batch: Mapping[str, Any], key: str) -> Tensor:
    """Take pictures (B, H, W, C), or (B, H, W), from a batch as (B, C, H, W) float32."""
    x = batch[key]
    x = x[..., None] if x.ndim == 3 else x
    return x.movedim(-1, 1).float().contiguous()


def with_scheduler(optimizer: torch.optim.Optimizer, config: Mapping[str, Any] | None) -> Any:
    """Pair an optimizer with the per-step learning-rate multiplier that ``config`` describes."""
    if config is None:
        return optimizer
    schedule = instantiate_from_config(config, where="scheduler_config").schedule
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=schedule)
    return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": 1}]

"""What the training methods of all models share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ldm.util import instantiate_from_config

# Types of device with a fused Adam; a model on meta is only looked at.
FUSED = ("cpu", "cuda", "mps", "xpu")


def pictures_from(batch: Mapping[str, Any], key: str) -> Tensor:
    """Take pictures (B, H, W, C), or (B, H, W), from a batch as (B, C, H, W) float32."""
    x = batch[key]
    x = x[..., None] if x.ndim == 3 else x
    return x.movedim(-1, 1).float().contiguous()


def make_optimizer(
    kind: type[torch.optim.Adam], parameters: Iterable[nn.Parameter], **options: Any
) -> torch.optim.Optimizer:
    """Make an optimizer that moves all weights in one kernel, where torch has one for them.

    Args:
        kind: Adam or AdamW.
        parameters: What it moves.
        **options: Learning rate, betas, weight decay.
    """
    parameters = list(parameters)
    fused = all(p.is_floating_point() and p.device.type in FUSED for p in parameters)
    optimizer = kind(parameters, fused=fused, **options)
    # It could divide by a float16 run's loss scale itself. Lightning does that beforehand, because
    # gradients are clipped between the two, and refuses to clip for an optimizer that would.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def split_tables(model: nn.Module, parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Part parameters into two groups: those that multiply, and tables that are looked up in.

    A table of embeddings has two dimensions, but is no matrix: an optimizer that treats matrices in
    their own way finds ``tables: True`` in its group.
    """
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if (id(p) in looked_up) == tables], "tables": tables}
        for tables in (False, True)
    ]
    return [group for group in groups if group["params"]]


def with_scheduler(optimizer: torch.optim.Optimizer, config: Mapping[str, Any] | None) -> Any:
    """Pair an optimizer with the per-step learning-rate multiplier that ``config`` describes."""
    if config is None:
        return optimizer
    schedule = instantiate_from_config(config, where="scheduler_config").schedule
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=schedule)
    return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": 1}]

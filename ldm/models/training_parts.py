"""Helpers of all models' training methods: pictures from batches, optimizers, schedules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ldm.building import build_from
from ldm.errors import UserError

# Device types with a fused Adam; a model on meta is never stepped.
FUSED = ("cpu", "cuda", "mps", "xpu")


def pictures_from(batch: Mapping[str, Any], key: str) -> Tensor:
    """Take pictures (B, H, W, C), or (B, H, W), from a batch as (B, C, H, W) float32.

    Raises:
        UserError: The batch has no such entry, or it is no tensor.
    """
    try:
        x = batch[key]
    except (KeyError, IndexError, TypeError) as error:
        names = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else "no names"
        raise UserError(
            f"the model takes pictures from the entry {key!r} of the data, which has {names}; "
            "correct model.params.first_stage_key (of an autoencoder image_key) or the data set"
        ) from error
    if not isinstance(x, Tensor):
        raise UserError(
            f"the model takes pictures from the entry {key!r} of the data, which holds "
            f"{type(x).__name__}; expected a tensor (B, H, W, C); correct "
            "model.params.first_stage_key (of an autoencoder image_key) or the data set"
        )
    x = x[..., None] if x.ndim == 3 else x
    return x.movedim(-1, 1).float().contiguous()


def make_optimizer(
    kind: type[torch.optim.Adam], parameters: Iterable[nn.Parameter], **options: Any
) -> torch.optim.Optimizer:
    """Make an optimizer that updates all weights in one fused kernel, if torch has one.

    Args:
        kind: Adam or AdamW.
        parameters: What it updates.
        **options: Learning rate, betas, weight decay.
    """
    parameters = list(parameters)
    fused = all(p.is_floating_point() and p.device.type in FUSED for p in parameters)
    optimizer = kind(parameters, fused=fused, **options)
    # A fused optimizer could undo a float16 run's loss scaling itself. Lightning does that before
    # it clips gradients, and refuses to clip for an optimizer that unscales.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def split_tables(model: nn.Module, parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Split parameters into two groups: weights that multiply, and embedding tables.

    An embedding table has two dimensions but is not used as a matrix. Its group has
    ``tables: True``, for optimizers that treat matrices differently.
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
    schedule = build_from(config, where="scheduler_config").schedule
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=schedule)
    return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": 1}]

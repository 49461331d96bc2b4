"""Choose the Lightning strategy by which several devices share a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import nn

# Name -> how its processes are started.
DDP = {"ddp": "popen", "ddp_spawn": "spawn", "ddp_fork": "fork"}
FSDP = {name.replace("ddp", "fsdp"): start for name, start in DDP.items()}
UNUSED = "_find_unused_parameters_true"


def choose_strategy(settings: Mapping[str, Any], model: nn.Module) -> Strategy | str:
    """Return the strategy that ``settings.strategy`` names; auto is ddp on several devices.

    Args:
        settings: Arguments of the Trainer.
        model: If ``two_optimizers`` is true, a backward pass reaches only some of its weights, and
            DDP must find out which.

    Raises:
        UserError: fsdp for a model that it cannot train.
    """
    name = settings.get("strategy", "auto")
    if name == "auto" and _several(settings):
        name = "ddp"
    if name in FSDP:
        from ldm.training.sharding import ShardedStrategy, check_shardable

        check_shardable(model)
        return ShardedStrategy(start_method=FSDP[name])
    plain = str(name).removesuffix(UNUSED)
    if plain not in DDP:
        return name
    return DDPStrategy(
        start_method=DDP[plain],
        find_unused_parameters=plain != name or getattr(model, "two_optimizers", False),
        # The moving averages are buffers, equal on all devices and as large as the network, so
        # buffers are not sent at every step. What the first batch sets is sent once, by the task.
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )


def _several(settings: Mapping[str, Any]) -> bool:
    devices = settings.get("devices", 1)
    if devices in (-1, "auto"):
        devices = torch.cuda.device_count() if settings.get("accelerator") != "cpu" else 1
    count = len(devices) if isinstance(devices, list) else devices
    return settings.get("num_nodes", 1) > 1 or count > 1

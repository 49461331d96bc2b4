"""Choose the Lightning strategy by which several devices share a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import nn

from ldm.errors import UserError
from ldm.training.compression import CompressedStrategy, Compression

logger = logging.getLogger(__name__)

# Name -> how its processes are started.
DDP = {"ddp": "popen", "ddp_spawn": "spawn", "ddp_fork": "fork"}
FSDP = {name.replace("ddp", "fsdp"): start for name, start in DDP.items()}
UNUSED = "_find_unused_parameters_true"


def choose_strategy(
    settings: Mapping[str, Any], model: nn.Module, compression: Compression | None = None
) -> Strategy | str:
    """Return the strategy that ``settings.strategy`` names; auto is ddp on several devices.

    Args:
        settings: Arguments of the Trainer.
        model: If ``two_optimizers`` is true, a backward pass reaches only some of its weights, and
            DDP must find out which.
        compression: How DDP sends gradients; None as they are.

    Raises:
        UserError: fsdp for a model that it cannot train, or compression with another strategy.
    """
    name = settings.get("strategy", "auto")
    if name == "auto" and _several(settings):
        name = "ddp"
    plain = str(name).removesuffix(UNUSED)
    if compression is not None and plain not in DDP:
        if name != "auto":
            raise UserError(
                f"gradient_compression {compression.kind} given with strategy {name}; expected ddp,"
                " whose gradients it compresses; give strategy ddp, or leave it out"
            )
        logger.warning(
            "gradient_compression %s is not used: one device sends no gradients", compression.kind
        )
    if name in FSDP:
        from ldm.training.sharding import ShardedStrategy, check_shardable

        check_shardable(model)
        return ShardedStrategy(start_method=FSDP[name])
    if plain not in DDP:
        return name
    return _ddp(
        compression,
        start_method=DDP[plain],
        find_unused_parameters=plain != name or getattr(model, "two_optimizers", False),
        # The moving averages are buffers, equal on all devices and as large as the network, so
        # buffers are not sent at every step. What the first batch sets is sent once, by the task.
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )


def _ddp(compression: Compression | None, **arguments: Any) -> DDPStrategy:
    if compression is None:
        return DDPStrategy(**arguments)
    return CompressedStrategy(compression, **arguments)


def _several(settings: Mapping[str, Any]) -> bool:
    devices = settings.get("devices", 1)
    if devices in (-1, "auto"):
        devices = torch.cuda.device_count() if settings.get("accelerator") != "cpu" else 1
    count = len(devices) if isinstance(devices, list) else devices
    return settings.get("num_nodes", 1) > 1 or count > 1

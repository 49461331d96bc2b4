"""FSDP: shard the diffusion network's weights, gradients and optimizer state over devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from ldm.errors import UserError
from ldm.modules.attention import BasicTransformerBlock
from ldm.modules.diffusionmodules.unet_blocks import ResBlock

# Each of these is gathered before its forward or backward pass and freed after it.
UNITS = (BasicTransformerBlock, ResBlock)


class ShardedStrategy(DDPStrategy):
    """Shard the network, ``model.model``, and its averages; the first stage stays whole.

    Processes and checkpoints are the same as with DDP: checkpoints are whole, under the model's own
    names, and can be resumed with or without shards.
    """

    # Calls of the network must then happen on all devices: each holds a part of it.
    sharded = True

    def configure_ddp(self) -> None:
        """Shard the network, where Lightning would wrap the whole model in DDP."""
        hub = self.lightning_module
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for module in hub.model.modules():
            if isinstance(module, UNITS):
                fully_shard(module, mesh=mesh, reshard_after_forward=True)
        fully_shard(hub.model, mesh=mesh, reshard_after_forward=True)
        hub.register_state_dict_post_hook(_gather)
        if getattr(hub, "use_ema", False):
            _shard_averages(hub.model, hub.model_ema)

    def setup(self, trainer: pl.Trainer) -> None:
        """Prepare training, or a test, whose weights are already loaded, whole or sharded."""
        if trainer.state.fn == TrainerFn.FITTING:
            super().setup(trainer)
            return
        self.accelerator.setup(trainer)
        self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        self.setup_precision_plugin()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Gather the optimizer's state."""
        return whole(super().optimizer_state(optimizer))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Shard a whole optimizer state again."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            shards = {
                number: {name: _like(value, parameters[number]) for name, value in entry.items()}
                for number, entry in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": shards})


def check_shardable(model: nn.Module) -> None:
    """Refuse models that would not train as they do on one device.

    Raises:
        UserError: The model has no network in ``model.model``, or trains weights outside it.
    """
    network = getattr(model, "model", None)
    inside = set(network.parameters()) if isinstance(network, nn.Module) else set()
    outside = [n for n, p in model.named_parameters() if p.requires_grad and p not in inside]
    if outside:
        raise UserError(
            f"strategy fsdp given, but {type(model).__name__} trains {len(outside)} weights "
            f"outside a diffusion network, such as {outside[0]}; give strategy ddp"
        )


def whole(state: Any) -> Any:
    """Gather the shards in nested dicts and lists, on the CPU; return anything else unchanged."""
    return tree_map(lambda v: v.full_tensor().cpu() if isinstance(v, DTensor) else v, state)


def _gather(module: nn.Module, state: dict[str, Any], *_: Any) -> None:  # noqa: ARG001 - torch's
    """Make a state dict's shards whole; all processes must ask for it."""
    state.update(whole(dict(state)))


def _shard_averages(network: nn.Module, ema: nn.Module) -> None:
    """Shard the averages like their weights, so that they never need to be gathered."""
    parameters = dict(network.named_parameters())
    for name, shadow in ema.m_name2s_name.items():
        setattr(ema, shadow, _like(getattr(ema, shadow), parameters[name]))


def _like(value: Any, parameter: Tensor) -> Any:
    """Shard a tensor of a parameter's shape like the parameter; return anything else unchanged."""
    if not isinstance(parameter, DTensor) or getattr(value, "shape", None) != parameter.shape:
        return value
    return distribute_tensor(
        value.to(parameter.device), parameter.device_mesh, parameter.placements
    )

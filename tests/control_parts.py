"""A narrow model with SD v1's kinds of level, and controls of random weights beside it."""

from __future__ import annotations

import copy
from pathlib import Path

import diffusers
import torch
from narrow_models import narrow_model
from safetensors.torch import save_file
from tiny_model import CONFIG
from torch import Tensor

from ldm.adapters.handle import require_unet
from ldm.checkpoint.diffusers.keymaps import unet_to_diffusers
from ldm.modules.diffusionmodules.control_net import ControlNet, control_net_like

WIDTHS = (32, 64, 64)
UNET = {"channel_mult": [1, 2, 2], "num_res_blocks": 2, "attention_resolutions": [1, 2]}
_DOWN = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
_SHARED = {
    "block_out_channels": WIDTHS,
    "layers_per_block": 2,
    "down_block_types": _DOWN,
    "cross_attention_dim": 32,
    "attention_head_dim": 2,
}


def control_config(**unet) -> dict:
    """Return the configuration of a model with three levels, the last without attention."""
    config = copy.deepcopy(CONFIG)
    config["model"]["params"]["unet_config"]["params"].update(UNET, **unet)
    return config


def make_model(**unet) -> torch.nn.Module:
    """Build that model with random weights."""
    return narrow_model(control_config(**unet))


def as_random(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every weight that is zero a random value, small enough to add up."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def make_net(model: torch.nn.Module, seed: int = 0) -> ControlNet:
    """Build a ControlNet beside a model's UNet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return as_random(control_net_like(require_unet(model), 4, 3), seed)


def write_net(folder: Path, model: torch.nn.Module, name: str = "net", seed: int = 0) -> Path:
    """Write a ControlNet of random weights as cldm's ``control_model.*``."""
    state = {f"control_model.{n}": v for n, v in make_net(model, seed).state_dict().items()}
    save_file(state, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def peer_unet(model: torch.nn.Module) -> diffusers.UNet2DConditionModel:
    """Return diffusers' UNet with a model's weights."""
    up = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
    peer = diffusers.UNet2DConditionModel(up_block_types=up, sample_size=8, **_SHARED)
    unet = require_unet(model)
    config = {**UNET, "use_spatial_transformer": True}
    peer.load_state_dict(unet_to_diffusers(unet.state_dict(), config))
    return peer.eval()


def peer_net(seed: int = 0, **settings) -> diffusers.ControlNetModel:
    """Return diffusers' ControlNet with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hint = {"conditioning_embedding_out_channels": (16, 32, 96, 256)}
        return as_random(diffusers.ControlNetModel(**_SHARED, **hint, **settings), seed)


def peer_adapter(kind: str, channels: int) -> diffusers.T2IAdapter:
    """Return diffusers' T2I-Adapter with random weights; its light one makes a level of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        light = kind == "light_adapter"
        return diffusers.T2IAdapter(
            in_channels=channels,
            channels=list(WIDTHS[:-1] if light else WIDTHS),
            num_res_blocks=4 if light else 2,
            downscale_factor=8,
            adapter_type=kind,
        ).eval()


def original_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name a T2I-Adapter's weights of diffusers as the original does."""
    full, renamed = "adapter.conv_in.weight" in state, {}
    for name, value in state.items():
        parts = name.removeprefix("adapter.").split(".")
        if full and parts[0] == "body" and parts[2] == "in_conv":
            parts = ["body", str(2 * int(parts[1])), *parts[2:]]
        elif full and parts[0] == "body":
            parts = ["body", str(2 * int(parts[1]) + int(parts[3])), *parts[4:]]
        elif parts[0] == "body" and parts[2] == "resnets":
            parts[2] = "body"
        renamed[".".join(parts)] = value.contiguous()
    return renamed


def inputs(rows: int = 2, side: int = 8, channels: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, timesteps and context of a call."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, channels, side, side, generator=generator)
    return x, torch.arange(rows) * 300 + 5, torch.randn(rows, 77, 32, generator=generator)


def drawing(count: int = 1, side: int = 64, seed: int = 4) -> Tensor:
    """Return a hint (count, 3, side, side) in [0, 1]."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))

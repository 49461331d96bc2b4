"""The same UNet twice: a tiny model of ours, and diffusers' with its weights."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from tiny_model import CONFIG

from ldm.checkpoint.diffusers.keymaps import unet_to_diffusers

WIDTH = 32


def peer_of(model: torch.nn.Module, **more: Any) -> diffusers.UNet2DConditionModel:
    """Return diffusers' form of a model built from ``tiny_model.CONFIG``; ``more`` is its own."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        **more,
    ).eval()
    config = CONFIG["model"]["params"]["unet_config"]["params"]
    state = unet_to_diffusers(model.model.diffusion_model.state_dict(), config)
    missing, unexpected = unet.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("fuser" in name or "position_net" in name for name in missing)
    return unet


STEPS = 4
"""Divides the thousand training steps, so that both place their steps alike."""


def peer_draw(eps: Any, x: torch.Tensor, scale: float) -> torch.Tensor:
    """Take ``STEPS`` steps of diffusers' DDIM; ``eps(x, t)`` is [uncond, cond] in one batch."""
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:
        uncond, cond = eps(torch.cat([x, x]), t.expand(2 * len(x))).chunk(2)
        x = scheduler.step(uncond + scale * (cond - uncond), t, x).prev_sample
    return x

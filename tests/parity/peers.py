"""Narrow twins: a network of this project and diffusers' own with the same random weights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from golden.fill import official_state
from torch import Tensor, nn

from ldm.checkpoint.diffusers.keymaps import unet_to_diffusers, vae_to_diffusers
from ldm.models.autoencoder import AutoencoderKL
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.process.schedules import make_beta_schedule

# Stable Diffusion v1's networks, a tenth as wide.
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": 64,
    "legacy": False,
}
VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
WIDTHS = (32, 64, 128, 128)


def relative_error(a: Tensor, b: Tensor) -> float:
    """Return ||a - b|| / ||b||."""
    return ((a - b).norm() / b.norm()).item()


def unet_twins(in_channels: int = 4) -> tuple[UNetModel, nn.Module]:
    """Return our UNet and diffusers' with weights that went through our key map, strictly."""
    diffusers = pytest.importorskip("diffusers")
    config = {**UNET, "in_channels": in_channels}
    ours = UNetModel(**config).eval()
    ours.load_state_dict(official_state(ours, prefix="model.diffusion_model."))
    theirs = diffusers.UNet2DConditionModel(
        sample_size=UNET["image_size"],
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=WIDTHS,
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        layers_per_block=UNET["num_res_blocks"],
        cross_attention_dim=UNET["context_dim"],
        attention_head_dim=UNET["num_heads"],  # diffusers' name for the number of heads
    ).eval()
    theirs.load_state_dict(unet_to_diffusers(ours.state_dict(), config), strict=True)
    return ours, theirs


def vae_twins() -> tuple[AutoencoderKL, nn.Module]:
    """Return our autoencoder and diffusers' with weights that went through our key map."""
    diffusers = pytest.importorskip("diffusers")
    ours = AutoencoderKL(VAE, {"target": "torch.nn.Identity"}, embed_dim=4).eval()
    ours.load_state_dict(official_state(ours, prefix="first_stage_model."))
    theirs = diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=WIDTHS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=VAE["num_res_blocks"],
        sample_size=64,
    ).eval()
    theirs.load_state_dict(vae_to_diffusers(ours.state_dict(), VAE), strict=True)
    return ours, theirs


def as_eps_model(unet: UNetModel) -> SimpleNamespace:
    """Give a bare UNet what a sampler asks of a model, with Stable Diffusion's schedule."""
    betas = torch.from_numpy(make_beta_schedule("linear", 1000, 0.00085, 0.012))
    return SimpleNamespace(
        num_timesteps=1000,
        alphas_cumprod=torch.cumprod(1 - betas, 0).float(),
        parameterization="eps",
        device=torch.device("cpu"),
        apply_model=lambda x, t, cond: unet(x, t, context=cond),
    )

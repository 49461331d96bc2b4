"""Tiny models that are made for inpainting: with text (9 channels) and without (7)."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from omegaconf import OmegaConf
from tiny_model import CONFIG


def _sighted() -> dict:
    """Stable Diffusion's inpainting checkpoints: hybrid conditioning."""
    config = copy.deepcopy(CONFIG)
    config["model"]["target"] = "ldm.models.diffusion.ddpm.LatentInpaintDiffusion"
    params = config["model"]["params"]
    params["conditioning_key"] = "hybrid"
    params["unet_config"]["params"]["in_channels"] = 9
    return config


def _textless() -> dict:
    """Latent-diffusion's inpainting_big: the first stage conditions, latents of 3 channels."""
    config = copy.deepcopy(CONFIG)
    params = config["model"]["params"]
    del params["conditioning_key"]
    params |= {
        "concat_mode": True,
        "channels": 3,
        "scale_factor": 1.0,
        "cond_stage_key": "masked_image",
        "cond_stage_config": "__is_first_stage__",
    }
    unet = params["unet_config"]["params"]
    unet |= {"in_channels": 7, "out_channels": 3, "use_spatial_transformer": False}
    del unet["context_dim"], unet["legacy"]
    first_stage = params["first_stage_config"]
    first_stage["target"] = "ldm.models.autoencoder.VQModelInterface"
    first_stage["params"] |= {"embed_dim": 3, "n_embed": 16}
    first_stage["params"]["ddconfig"] |= {"z_channels": 3, "double_z": False}
    return config


SIGHTED, TEXTLESS = _sighted(), _textless()


def write_inpainting_model(folder: Path, config: dict, seed: int = 0) -> Path:
    """Write ``config.yaml`` and ``last.ckpt`` into ``folder``; return the latter's path."""
    from ldm.config import build

    folder.mkdir(parents=True, exist_ok=True)
    made = OmegaConf.create(config)
    OmegaConf.save(made, folder / "config.yaml")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(made)
        # A new UNet ends in zeros and ignores its inputs; this one has to use them.
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    torch.save({"state_dict": model.state_dict(), "global_step": 7}, folder / "last.ckpt")
    return folder / "last.ckpt"

"""Narrow models of each kind that has a place in a diffusers folder, with random weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from tiny_model import CONFIG

from ldm.config import build

TOWER = {"width": 32, "heads": 2, "layers": 3, "mlp": 64, "embed_dim": 16}


def narrow_config(kind: str) -> dict[str, Any]:
    """Return the configuration of a kind: ``v1``, ``v2``, ``v2-v``, ``inpainting`` or ``other``.

    ``other`` is none of the published ones: three levels of one block or two, attention at every
    level of the autoencoder, time embeddings that scale, another schedule.
    """
    config = copy.deepcopy(CONFIG)
    params = config["model"]["params"]
    unet = params["unet_config"]["params"]
    if kind.startswith("v2"):
        unet.update(use_linear_in_transformer=True, num_head_channels=16)
        del unet["num_heads"]
        params["parameterization"] = "v" if kind == "v2-v" else "eps"
        params["cond_stage_config"] = {
            "target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
            "params": {"layer": "penultimate", "text_config": dict(TOWER)},
        }
    if kind == "inpainting":
        config["model"]["target"] = "ldm.models.diffusion.ddpm.LatentInpaintDiffusion"
        params["conditioning_key"] = "hybrid"
        unet["in_channels"] = 9
    if kind == "other":
        unet.update(channel_mult=[1, 1, 2], num_res_blocks=[1, 2, 1], attention_resolutions=[4, 1])
        unet.update(use_scale_shift_norm=True, transformer_depth=2, num_heads=4)
        ddconfig = params["first_stage_config"]["params"]["ddconfig"]
        ddconfig.update(ch_mult=[1, 2, 1], num_res_blocks=2, resolution=32)
        ddconfig.update(attn_resolutions=[32, 16, 8])
        params.update(beta_schedule="sqrt", parameterization="x0", image_size=8)
        params.update(scale_by_std=True, linear_start=1e-6, linear_end=1e-4)
    return config


def write_narrow_model(folder: Path, kind: str, seed: int = 0) -> tuple[Path, Path]:
    """Write ``<kind>.safetensors`` and ``<kind>.yaml`` into a folder; return their paths."""
    config = narrow_config(kind)
    OmegaConf.save(OmegaConf.create(config), folder / f"{kind}.yaml")
    save_file(narrow_model(config, seed).state_dict(), folder / f"{kind}.safetensors")
    return folder / f"{kind}.safetensors", folder / f"{kind}.yaml"


def narrow_model(config: DictConfig | dict[str, Any], seed: int = 0) -> torch.nn.Module:
    """Build a model whose every weight is random: nothing ends in zeros."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(OmegaConf.create(config)).eval()
        for name, value in model.named_parameters():
            if not value.any() or (value.ndim == 1 and bool((value == 1).all())):
                torch.nn.init.normal_(value, mean=float(value.any()), std=0.02)
            assert value.any(), name
        if isinstance(getattr(model, "scale_factor", None), torch.Tensor):
            model.scale_factor.fill_(0.7654321)
    return model

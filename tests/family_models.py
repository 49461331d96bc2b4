"""The family's kinds of model beside the text-conditional one, small enough for any test.

Each is ``tiny_model``'s with another organ or two: random weights that depend on every input.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import tiny_model
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch.utils.data import Dataset

CLASSES = 5
VQ = {
    "target": "ldm.models.autoencoder.VQModelInterface",
    "params": {"embed_dim": 4, "n_embed": 16},
}


def family_config(kind: str) -> dict[str, Any]:
    """Return the YAML's content: "unconditional", "class", "vq", "pixels" or "upscaling".

    "class" has 5 classes, the last the empty one; "vq" is unconditional over a codebook's first
    stage, "pixels" a plain DDPM; "upscaling" is conditioned on pictures of half the sides.
    """
    config = deepcopy(tiny_model.CONFIG)
    model = config["model"]
    params, unet = model["params"], model["params"]["unet_config"]["params"]
    params.update(first_stage_key="image", timesteps=100)
    if kind == "class":
        params["cond_stage_key"] = "class_label"
        params["cond_stage_config"] = {
            "target": "ldm.modules.encoders.modules.ClassEmbedder",
            "params": {"embed_dim": 32, "n_classes": CLASSES, "key": "class_label"},
        }
        return config
    for name in ("use_spatial_transformer", "context_dim"):
        del unet[name]
    if kind == "upscaling":
        unet["in_channels"] = 7  # 4 of the latent, 3 of the picture
        params.update(cond_stage_key="LR_image", conditioning_key="concat")
        params["cond_stage_config"] = {"target": "torch.nn.Identity"}
        return config
    del params["conditioning_key"], params["cond_stage_key"]
    if kind == "pixels":
        unet.update(in_channels=3, out_channels=3)
        params.update(channels=3, image_size=tiny_model.SIZE // 2)
        for name in ("first_stage_config", "cond_stage_config", "scale_factor"):
            del params[name]
        model["target"] = "ldm.models.diffusion.ddpm.DDPM"
        return config
    params["cond_stage_config"] = "__is_unconditional__"
    if kind == "vq":
        own = params["first_stage_config"]["params"]
        interface = deepcopy(VQ)
        ddconfig = {**own["ddconfig"], "double_z": False}
        interface["params"].update(lossconfig=own["lossconfig"], ddconfig=ddconfig)
        params["first_stage_config"] = interface
    return config


def write_family_model(folder: Path, kind: str, seed: int = 0) -> Path:
    """Write ``config.yaml`` and ``model.safetensors`` into ``folder``; return the folder."""
    from ldm.config import build

    folder.mkdir(parents=True, exist_ok=True)
    config = OmegaConf.create(family_config(kind))
    OmegaConf.save(config, folder / "config.yaml")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config)
        # A new UNet ends in zeros and ignores its inputs; this one has to use them.
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder


class Shades(Dataset):
    """Grey pictures (16, 16, 3) in [-1, 1] that are as bright as their class, of 3."""

    def __init__(self, length: int = 6):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        label = index % 3
        return {"image": torch.full((16, 16, 3), (label - 1) * 0.9), "class_label": label}

"""A latent diffusion model of SD v1's kind that is small enough for any test.

Latents (4, h, w) at half the pictures' sides (f = 2), two levels in the UNet, 16x16 pixels by
default. Its weights are random, so its pictures are noise; but they depend on every input.
"""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

SIZE, FACTOR, MULTIPLE = 16, 2, 4

CONFIG = {
    "model": {
        "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
        "params": {
            "linear_start": 0.00085,
            "linear_end": 0.012,
            "timesteps": 1000,
            "first_stage_key": "jpg",
            "cond_stage_key": "txt",
            "image_size": SIZE // FACTOR,
            "channels": 4,
            "conditioning_key": "crossattn",
            "scale_factor": 0.18215,
            "use_ema": False,
            "unet_config": {
                "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
                "params": {
                    "image_size": SIZE // FACTOR,
                    "in_channels": 4,
                    "out_channels": 4,
                    "model_channels": 32,
                    "attention_resolutions": [2],
                    "num_res_blocks": 1,
                    "channel_mult": [1, 2],
                    "num_heads": 2,
                    "use_spatial_transformer": True,
                    "context_dim": 32,
                    "legacy": False,
                },
            },
            "first_stage_config": {
                "target": "ldm.models.autoencoder.AutoencoderKL",
                "params": {
                    "embed_dim": 4,
                    "lossconfig": {"target": "torch.nn.Identity"},
                    "ddconfig": {
                        "double_z": True,
                        "z_channels": 4,
                        "resolution": SIZE,
                        "in_channels": 3,
                        "out_ch": 3,
                        "ch": 32,
                        "ch_mult": [1, 1],
                        "num_res_blocks": 1,
                        "attn_resolutions": [],
                        "dropout": 0.0,
                    },
                },
            },
            "cond_stage_config": {
                "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
                "params": {
                    "text_config": {
                        "hidden_size": 32,
                        "intermediate_size": 64,
                        "num_hidden_layers": 1,
                        "num_attention_heads": 2,
                    }
                },
            },
        },
    }
}


def write_tiny_model(folder: Path, seed: int = 0) -> Path:
    """Write ``config.yaml`` and ``tiny.safetensors`` into ``folder``; return the latter's path."""
    from ldm.config import build

    config = OmegaConf.create(CONFIG)
    OmegaConf.save(config, folder / "config.yaml")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config)
        # A new UNet ends in zeros and ignores its inputs; this one has to use them.
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    save_file(model.state_dict(), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"

"""Models for whole runs of main.py that take a moment, and the comparison of two runs."""

from __future__ import annotations

import torch

TINY_AUTOENCODER = {
    "base_learning_rate": 5.0e-4,
    "target": "ldm.models.autoencoder.AutoencoderKL",
    "params": {
        "monitor": "val/rec_loss",
        "image_key": "jpg",
        "embed_dim": 2,
        "lossconfig": {"target": "ldm.modules.losses.ReconstructionLoss"},
        "scheduler_config": {
            "target": "ldm.lr_scheduler.LambdaWarmUpCosineScheduler",
            "params": {
                "warm_up_steps": 2,
                "lr_start": 0.1,
                "lr_max": 1.0,
                "lr_min": 0.1,
                "max_decay_steps": 12,
            },
        },
        "ddconfig": {
            "double_z": True,
            "z_channels": 2,
            "resolution": 16,
            "in_channels": 3,
            "out_ch": 3,
            "ch": 32,
            "ch_mult": [1, 1],
            "num_res_blocks": 1,
            "attn_resolutions": [],
            "dropout": 0.1,
        },
    },
}

UNET = {
    "image_size": 8,
    "in_channels": 2,
    "out_channels": 2,
    "model_channels": 32,
    "attention_resolutions": [1],
    "num_res_blocks": 1,
    "channel_mult": [1],
    "num_head_channels": 16,
    "use_spatial_transformer": True,
    "context_dim": 16,
    "legacy": False,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
TINY_DIFFUSION = {
    "base_learning_rate": 1.0e-4,
    "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
    "params": {
        "monitor": "val/loss_simple_ema",
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 8,
        "channels": 2,
        "cond_stage_trainable": True,
        "conditioning_key": "crossattn",
        "parameterization": "v",
        "snr_gamma": 5.0,
        "scale_by_std": True,
        "cond_dropout": 0.5,
        "use_ema": True,
        "unet_config": {
            "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
            "params": UNET,
        },
        "first_stage_config": {
            "target": TINY_AUTOENCODER["target"],
            "params": {
                "embed_dim": 2,
                "lossconfig": {"target": "torch.nn.Identity"},
                "ddconfig": TINY_AUTOENCODER["params"]["ddconfig"],
            },
        },
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"trainable": True, "text_config": TEXT},
        },
    },
}


def assert_same_run(work, one: str, other: str, figure: str) -> None:
    a, b = work.checkpoint(one), work.checkpoint(other)
    assert a["global_step"] == b["global_step"]
    assert a["training_progress"] == b["training_progress"]
    torch.testing.assert_close(a["state_dict"], b["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(
        a["optimizer_states"][0]["state"], b["optimizer_states"][0]["state"], rtol=0, atol=0
    )
    assert a["lr_schedulers"] == b["lr_schedulers"]
    assert work.figures(one, figure) == work.figures(other, figure)

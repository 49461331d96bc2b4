"""Small hubs of each kind that train, a loader, and a plain Trainer's fit."""

from __future__ import annotations

import copy

import pytorch_lightning as pl
from tiny_model import CONFIG
from torch.utils.data import DataLoader
from training_parts import Pictures

from ldm.models.autoencoder import AutoencoderKL, VQModel
from ldm.models.contrastive import ContrastiveTextImage
from ldm.models.diffusion.ddpm import DDPM, LatentDiffusion

PARAMS = CONFIG["model"]["params"]
TEXT = PARAMS["cond_stage_config"]
DDCONFIG = PARAMS["first_stage_config"]["params"]["ddconfig"]
ADVERSARY = {"disc_start": 0, "disc_num_layers": 2, "disc_ndf": 8, "perceptual_weight": 0}
WARM_UP = {
    "target": "ldm.lr_scheduler.LambdaLinearScheduler",
    "params": {
        "warm_up_steps": [4],
        "cycle_lengths": [100],
        "f_start": [0.0],
        "f_max": [1.0],
        "f_min": [1.0],
    },
}


def latent(**changes):
    return LatentDiffusion(**{**copy.deepcopy(PARAMS), "use_ema": True, **changes})


def pixels(**changes):
    unet = copy.deepcopy(PARAMS["unet_config"])
    unet["params"] |= {"in_channels": 3, "out_channels": 3, "context_dim": None}
    unet["params"]["use_spatial_transformer"] = False
    return DDPM(unet, first_stage_key="jpg", image_size=16, **changes)


def gaussian(**changes):
    loss = {"target": "ldm.modules.losses.LPIPSWithDiscriminator", "params": ADVERSARY}
    return AutoencoderKL(DDCONFIG, loss, embed_dim=4, image_key="jpg", **changes)


def quantized(**changes):
    target = "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator"
    loss = {"target": target, "params": {**ADVERSARY, "n_classes": 8}}
    shared = {"embed_dim": 4, "n_embed": 8, "image_key": "jpg", "use_ema": True}
    return VQModel({**DDCONFIG, "double_z": False}, lossconfig=loss, **shared, **changes)


def contrastive(**changes):
    text = {**TEXT, "params": {**TEXT["params"], "trainable": True}}
    return ContrastiveTextImage(text, image_size=16, embed_dim=8, **changes)


def loader(count=4, batch_size=2):
    return DataLoader(Pictures(count), batch_size=batch_size)


def fit(model, batches=None, steps=2, validate=False, **settings):
    model.learning_rate = getattr(model, "learning_rate", None) or 1e-3
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    settings = {"enable_checkpointing": False, "log_every_n_steps": 1, **quiet, **settings}
    trainer = pl.Trainer(accelerator="cpu", devices=1, max_steps=steps, **settings)
    trainer.fit(model, batches or loader(), loader() if validate else None)
    return trainer

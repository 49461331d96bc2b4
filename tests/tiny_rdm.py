"""A retrieval-augmented model small enough for any test, and a CLIP to go with it.

Latents (16, h, w) at half the pictures' sides; its tokens are ``WIDTH`` numbers wide.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file
from tiny_model import CONFIG as TEXT_CONFIG

from ldm.data.retrieval import Embedder

WIDTH, CHANNELS = 8, 16
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}


def config() -> dict:
    """Return the model's configuration."""
    made = copy.deepcopy(TEXT_CONFIG)
    params = made["model"]["params"]
    params["channels"] = CHANNELS
    params["cond_stage_config"] = {"target": "torch.nn.Identity"}
    first_stage = params["first_stage_config"]["params"]
    first_stage["embed_dim"] = first_stage["ddconfig"]["z_channels"] = CHANNELS
    unet = params["unet_config"]["params"]
    unet |= {"in_channels": CHANNELS, "out_channels": CHANNELS, "context_dim": WIDTH}
    return made


def write_tiny_rdm(folder: Path, seed: int = 0) -> Path:
    """Write ``config.yaml`` and ``rdm.safetensors`` into ``folder``; return the latter's path."""
    from ldm.config import build

    made = OmegaConf.create(config())
    OmegaConf.save(made, folder / "config.yaml")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(made)
        # A new UNet ends in zeros and ignores its inputs; this one has to use them.
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    save_file(model.state_dict(), folder / "rdm.safetensors")
    return folder / "rdm.safetensors"


def direction(colour) -> np.ndarray:
    """Return the unit row (WIDTH,) of a colour, 0 to 255 a channel."""
    row = np.array([*colour, *[30] * (WIDTH - 3)], np.float32)
    return row / np.linalg.norm(row)


class StubTexts:
    """CLIP's text tower for names of colours; other texts get directions of their own."""

    def to(self, device):
        self.device = device

    def __call__(self, texts):
        return torch.from_numpy(np.stack([self._row(text) for text in texts]))

    def _row(self, text):
        if text in COLOURS:
            return direction(COLOURS[text])
        seed = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
        row = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
        return row / np.linalg.norm(row)


class StubPictures:
    """CLIP's picture tower: the direction of a picture's mean colour."""

    def __init__(self, weights="stub"):
        self.embedder = Embedder("ViT-L/14", weights)
        self.calls = 0

    def __call__(self, pictures):
        self.calls += 1
        means = [np.asarray(picture).mean((0, 1)) for picture in pictures]
        return torch.from_numpy(np.stack([direction(mean) for mean in means]))

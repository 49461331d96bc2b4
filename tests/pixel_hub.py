"""A hub in the space of its inputs, small, for tests of its loss."""

from __future__ import annotations

import copy

import torch
from tiny_model import CONFIG

from ldm.models.diffusion.ddpm import DDPM

UNET = copy.deepcopy(CONFIG["model"]["params"]["unet_config"])
UNET["params"].update(use_spatial_transformer=False, context_dim=None)
STEPS = torch.tensor([3, 400, 900])


def make(**changes) -> DDPM:
    """Return a model whose network answers with something that depends on its inputs."""
    torch.manual_seed(0)
    model = DDPM(UNET, channels=4, use_ema=False, **changes)
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


@torch.no_grad()
def loss_of(model: DDPM) -> torch.Tensor:
    x0, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return model.p_losses(x0, STEPS, noise)[0]

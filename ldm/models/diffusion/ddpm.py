"""The hubs at the address that configurations and other people's code have for them."""

from __future__ import annotations

from ldm.models.diffusion.latent_diffusion import LatentDiffusion
from ldm.models.diffusion.latent_inpainting import LatentInpaintDiffusion
from ldm.models.diffusion.pixel_diffusion import DDPM
from ldm.models.diffusion.wrapper import DiffusionWrapper

__all__ = ["DDPM", "DiffusionWrapper", "LatentDiffusion", "LatentInpaintDiffusion"]

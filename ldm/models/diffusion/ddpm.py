"""The hubs at the address that configurations and other people's code have for them.

Forks also import from here what CompVis's file of this name imports.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from ldm.models.diffusion.latent_diffusion import LatentDiffusion
from ldm.models.diffusion.latent_inpainting import LatentInpaintDiffusion
from ldm.models.diffusion.pixel_diffusion import DDPM
from ldm.models.diffusion.wrapper import DiffusionWrapper
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.process.schedules import make_beta_schedule
from ldm.util import instantiate_from_config, lazy_exports

# Imported when somebody asks: drawing needs none of them.
ELSEWHERE = {
    "AutoencoderKL": "ldm.models.autoencoder",
    "IdentityFirstStage": "ldm.models.autoencoder",
    "VQModelInterface": "ldm.models.autoencoder",
    "DDIMSampler": "ldm.models.diffusion.ddim",
    "extract_into_tensor": "ldm.modules.diffusionmodules.util",
    "noise_like": "ldm.modules.diffusionmodules.util",
    "normal_kl": "ldm.modules.distributions.distributions",
    "LitEma": "ldm.modules.ema",
    "count_params": "ldm.util",
    "default": "ldm.util",
    "exists": "ldm.util",
    "isimage": "ldm.util",
    "ismap": "ldm.util",
    "log_txt_as_img": "ldm.util",
    "mean_flat": "ldm.util",
}
__all__ = ["DDPM", "DiffusionWrapper", "LatentDiffusion", "LatentInpaintDiffusion"]
__all__ += ["DiagonalGaussianDistribution", "instantiate_from_config", "make_beta_schedule"]
__all__ += ["nn", "partial", "torch"]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)

"""The hubs at the address that configurations and other people's code have for them.

Forks of CompVis's file also import from here what that file imports or defines.
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

ELSEWHERE = {
    "Any": "typing",
    "Callable": "collections.abc",
    "Conditioning": "ldm.types",
    "FIRST_CONVOLUTION": "ldm.models.diffusion.latent_inpainting",
    "ForwardProcess": "ldm.models.diffusion.forward_process",
    "Iterator": "collections.abc",
    "LitEma": "ldm.modules.ema",
    "Mapping": "collections.abc",
    "NoiseSource": "ldm.rng",
    "Parameterization": "ldm.process.prediction",
    "Sequence": "collections.abc",
    "SplitInput": "ldm.models.tiling.patches",
    "Tensor": "torch",
    "UserError": "ldm.errors",
    "choose_trainable": "ldm.models.diffusion.latent_diffusion",
    "code_in_patches": "ldm.models.tiling.patches",
    "conditioner_input": "ldm.models.diffusion.batch_conditioning",
    "contextmanager": "contextlib",
    "denoise_in_patches": "ldm.models.tiling.patches",
    "diffusion_coefficients": "ldm.process.schedules",
    "drop_some": "ldm.models.diffusion.batch_conditioning",
    "extract_into_tensor": "ldm.process.gaussian",
    "inpainting_maps": "ldm.models.diffusion.latent_inpainting",
    "make_optimizer": "ldm.models.training_parts",
    "pictures_from": "ldm.models.training_parts",
    "precomputed": "ldm.models.diffusion.batch_conditioning",
    "prediction": "ldm.models.diffusion.pixel_diffusion",
    "preview_images": "ldm.models.diffusion.preview",
    "split_tables": "ldm.models.training_parts",
    "widen_inputs": "ldm.models.diffusion.latent_inpainting",
    "with_scheduler": "ldm.models.training_parts",
}
__all__ = ["DDPM", "DiffusionWrapper", "LatentDiffusion", "LatentInpaintDiffusion"]
__all__ += ["DiagonalGaussianDistribution", "instantiate_from_config", "make_beta_schedule"]
__all__ += ["nn", "partial", "torch"]
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)

"""Latent diffusion that paints a part of a picture anew, as drawing needs it.

Shapes: B batch, C latent channels, h w latent sides, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion

FIRST_CONVOLUTION = (
    "model.diffusion_model.input_blocks.0.0.weight",
    "model_ema.diffusion_modelinput_blocks00weight",
)
"""The UNet's first weight and its average: the only ones that know how many channels come in."""


class MaskedDiffusion(LatentSpaceDiffusion):
    """Latent diffusion that sees a mask and the rest of the picture, as SD's 9-channel files do.

    Args:
        concat_keys: Entries of a batch that join the latent on its channels, in this order: maps,
            nearest-resized to the latent, and ``masked_image_key``.
        masked_image_key: The entry that is a picture (B, H, W, 3) and is encoded.
        finetune_keys: Weights that are widened when a checkpoint of fewer input channels is given:
            its channels are kept, the new ones start at zero.
        signed_mask: Masks are -1 and 1 to the UNet, as in CompVis's inpainting_big; else 0 and 1.
        **kwargs: Parameters of ``LatentSpaceDiffusion``.
    """

    def __init__(
        self,
        concat_keys: Sequence[str] = ("mask", "masked_image"),
        masked_image_key: str = "masked_image",
        finetune_keys: Sequence[str] | None = FIRST_CONVOLUTION,
        signed_mask: bool = False,
        **kwargs: Any,
    ):
        self.concat_keys, self.masked_image_key = tuple(concat_keys), masked_image_key
        self.finetune_keys, self.signed_mask = tuple(finetune_keys or ()), signed_mask
        super().__init__(**kwargs)

    def adapt_weights(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Widen the weights of ``finetune_keys`` to this model's input channels."""
        wanted = self.state_dict()
        widened = {
            key: widen_inputs(tensors[key], wanted[key])
            for key in self.finetune_keys
            if key in tensors and key in wanted  # averages may be on one side alone
        }
        return {**tensors, **widened}


def latent_mask(mask: Tensor, latent: Tensor, signed: bool) -> Tensor:
    """Resize masks (B, 1, H, W) in [0, 1], 1 = to be drawn, to the sides of ``latent``, nearest.

    ``signed`` maps them to [-1, 1].
    """
    small = interpolate(mask.to(latent), size=latent.shape[-2:])
    return small * 2 - 1 if signed else small


def widen_inputs(offered: Tensor, wanted: Tensor) -> Tensor:
    """Give a convolution's weight (O, I, k, k) further input channels of zeros, as ``wanted`` has.

    Weights of any other difference, and of none, are returned as they are.
    """
    new = wanted.shape[1] - offered.shape[1]
    if new <= 0 or offered.shape[0] != wanted.shape[0]:
        return offered
    zeros = offered.new_zeros((offered.shape[0], new, *offered.shape[2:]))
    return torch.cat([offered, zeros], dim=1)

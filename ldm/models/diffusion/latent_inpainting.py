"""Training of latent diffusion that paints a part of a picture anew.

Shapes: B batch, C latent channels, h w latent sides, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ldm.models.diffusion.batch_conditioning import first_rows
from ldm.models.diffusion.ddpm import DDPM, LatentDiffusion
from ldm.models.diffusion.masked_diffusion import MaskedDiffusion, latent_mask
from ldm.types import Conditioning


class LatentInpaintDiffusion(MaskedDiffusion, LatentDiffusion):
    """Latent diffusion that sees a mask and the rest of the picture, as SD's 9-channel files do.

    A LightningModule; its parameters are those of ``MaskedDiffusion``.
    """

    def get_input(
        self, batch: Mapping[str, Any], k: str, bs: int | None = None, **kwargs: Any
    ) -> list[Any]:
        """Take latents and their conditioning from a batch, see ``LatentDiffusion.get_input``.

        The conditioning is ``{"c_concat": maps}`` and, when hybrid, ``c_crossattn`` with what the
        conditioner makes; ``forward`` leaves it as it is.
        """
        batch = first_rows(batch, bs, self.device)
        z, c, *more = super().get_input(batch, k, **kwargs)
        cond = {"c_concat": inpainting_maps(self, batch)}
        if self.model.conditioning_key != "concat":
            cond["c_crossattn"] = [c]
        return [z, cond, *more]

    def _conditioning(
        self,
        batch: Mapping[str, Any],
        key: str,
        force_encode: bool,  # noqa: ARG002 - forward encodes nothing beside maps
    ) -> tuple[Conditioning, Any]:
        """Return the encoded conditioning of a hybrid model, and as it was; else nothing."""
        if self.model.conditioning_key == "concat":
            return None, None
        return super()._conditioning(batch, key, force_encode=True)


@torch.no_grad()
def inpainting_maps(model: Any, batch: Mapping[str, Any]) -> list[Tensor]:
    """Make what an inpainting UNet sees beside the latent, in the order of ``concat_keys``.

    Args:
        model: A ``LatentInpaintDiffusion``.
        batch: Pictures and masks (B, H, W, C).

    Returns:
        Maps (B, C', h, w).
    """
    picture = DDPM.get_input(model, batch, model.masked_image_key)
    latent = model.get_first_stage_encoding(model.encode_first_stage(picture)).float()
    return [
        latent
        if key == model.masked_image_key
        else latent_mask(DDPM.get_input(model, batch, key), latent, model.signed_mask)
        for key in model.concat_keys
    ]

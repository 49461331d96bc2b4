"""Where conditioning enters the UNet.

Shapes: B batch, C channels, h w latent sides, L D tokens and their width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldm.building import place
from ldm.errors import UserError
from ldm.util import instantiate_from_config

CONDITIONING_KEYS = (None, "concat", "crossattn", "hybrid", "adm", "crossattn-adm", "hybrid-adm")


class DiffusionWrapper(nn.Module):
    """The UNet behind a conditioning key: where each kind of conditioning enters."""

    def __init__(self, diff_model_config: Mapping[str, Any], conditioning_key: str | None):
        super().__init__()
        if conditioning_key not in CONDITIONING_KEYS:
            known = ", ".join(str(k) for k in CONDITIONING_KEYS)
            raise UserError(f"conditioning_key {conditioning_key!r} given; expected one of {known}")
        with place("unet_config"):
            self.diffusion_model = instantiate_from_config(diff_model_config)
        self.conditioning_key = conditioning_key

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        c_concat: Sequence[Tensor] | None = None,
        c_crossattn: Sequence[Tensor] | None = None,
        c_adm: Tensor | None = None,
    ) -> Tensor:
        """Predict from x (B,C,h,w) and t (B,).

        Args:
            x: Noisy latents.
            t: Steps.
            c_concat: Maps (B, C', h, w), stacked on the channels of ``x``.
            c_crossattn: Tokens (B, L, D), joined along L; for ``adm`` one tensor of labels (B,).
            c_adm: Labels (B,) or vectors (B, D) for the UNet's label embedding.
        """
        key = self.conditioning_key or ""
        given: dict[str, Tensor] = {}
        if key.startswith(("concat", "hybrid")):
            x = torch.cat([x, *c_concat], dim=1)
        if key.startswith(("crossattn", "hybrid")):
            # A single one as it is: each step of a walk is then given the same tensor.
            parts = list(c_crossattn)
            given["context"] = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        if key.endswith("adm"):
            given["y"] = c_crossattn[0] if c_adm is None else c_adm
        return self.diffusion_model(x, t, **given)

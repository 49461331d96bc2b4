"""Pictures to look at while a latent diffusion model trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.util import log_txt_as_img


@torch.no_grad()
def preview_images(
    model: Any,
    batch: Mapping[str, Any],
    count: int = 8,
    ddim_steps: int = 25,
    guidance_scale: float = 3.0,
) -> dict[str, Tensor]:
    """Show a batch, its reconstruction, its captions and what the averaged weights draw of them.

    Args:
        model: A ``LatentDiffusion``, conditioned on texts or on nothing.
        batch: As for training.
        count: Pictures of each kind, at most.
        ddim_steps: Sampling steps.
        guidance_scale: Guidance of the samples.

    Returns:
        ``inputs``, ``reconstruction``, ``conditioning`` and ``samples``, each (n, 3, H, W) in
        [-1, 1].
    """
    x = model.get_input(batch, model.first_stage_key)[:count].to(model.device)
    z = model.get_first_stage_encoding(model.encode_first_stage(x))
    logs = {"inputs": x, "reconstruction": model.decode_first_stage(z)}
    cond = uncond = None
    if model.model.conditioning_key is not None:
        texts = list(batch[model.cond_stage_key])[:count]
        logs["conditioning"] = log_txt_as_img((x.shape[3], x.shape[2]), texts)
        cond = model.get_learned_conditioning(texts)
        uncond = model.get_learned_conditioning([""] * len(texts))
    with model.ema_scope():
        samples, _ = DDIMSampler(model, spacing="trailing").sample(
            ddim_steps,
            len(x),
            tuple(z.shape[1:]),
            cond,
            unconditional_guidance_scale=guidance_scale,
            unconditional_conditioning=uncond,
            verbose=False,
        )
    return {**logs, "samples": model.decode_first_stage(samples)}

"""diffusers' own pipeline on the same weights: it has no control, and draws the edited prompt anew.

Shapes: B prompts; C h w latents, H W pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.demo_measures import Sampling
from ldm.checkpoint.diffusers.convert import Conversion, to_diffusers
from ldm.rng import PerImageNoise
from optimizedSD.by_diffusers.drawing import make_scheduler


def diffusers_twin(config: Path, ckpt: Path, sampler: str) -> Any:
    """Return diffusers' pipeline of a checkpoint, through a folder that is deleted again."""
    import diffusers

    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "twin"
        to_diffusers(ckpt, folder, config, Conversion(dtype=torch.float32))
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.scheduler = make_scheduler(sampler, pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.inference_mode()
def draw_by_diffusers(
    pipe: Any, prompts: Sequence[str], side: int, scale: float, sampling: Sampling
) -> Tensor:
    """Draw prompts: (B, 3, H, W) in [-1, 1]; prompt i starts from the noise of seed + i.

    Args:
        pipe: What ``diffusers_twin`` returns.
        prompts: B texts.
        side: Of the latents, h = w.
        scale: Of classifier-free guidance.
        sampling: How; the spacing is diffusers' own.
    """
    pictures = []
    for first in range(0, len(prompts), sampling.batch_size):
        texts = list(prompts[first : first + sampling.batch_size])
        noise = PerImageNoise([sampling.seed + first + k for k in range(len(texts))])
        drawn = pipe(
            texts,
            latents=noise.randn((len(texts), pipe.unet.config.in_channels, side, side)),
            num_inference_steps=sampling.steps,
            guidance_scale=scale,
            output_type="pt",
        )
        pictures.append(drawn.images * 2 - 1)
    return torch.cat(pictures)

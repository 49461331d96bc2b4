"""What latent_imagenet_diffusion.ipynb calls: models, conditioning and pictures.

The names are those of CompVis's notebook_helpers, where they mean the same. Modes and tasks are
``class_conditional`` and ``superresolution``; pictures come and go as Pillow's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ldm.images.grid import make_grid
from ldm.images.io import load_image, to_tensor, to_uint8
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.pipelines.progress import log_events
from ldm.pipelines.samples import SampleRun
from ldm.pipelines.showcase import class_name, model_for
from ldm.pipelines.upscale import Upscaler
from ldm.settings.samples import SampleSettings
from ldm.settings.upscale import UpscaleSettings

__all__ = ["class_name", "convsample_ddim", "get_cond", "get_model", "run", "show"]


def get_model(mode: str = "class_conditional", device: str = "auto") -> nn.Module | None:
    """Load the model of a mode, or what stands in for it, and say which; see ``model_for``."""
    return model_for(mode, device, lambda notice: print(notice.text))


def get_cond(mode: str, selected: Any, up_f: int = 4) -> dict[str, Tensor]:
    """Return conditioning as a batch of data has it.

    Args:
        mode: What the model does.
        selected: Class numbers; or the small picture (w, h), or its path.
        up_f: How many times larger it is to become.

    Returns:
        ``class_label`` (B,); or ``LR_image`` (1, h, w, 3), which is the condition, and ``image``
        (1, up_f h, up_f w, 3), the same enlarged without a model; both in [-1, 1].
    """
    if mode == "class_conditional":
        return {"class_label": torch.as_tensor(selected)}
    small = _picture(selected)
    large = small.resize((up_f * small.width, up_f * small.height), Image.Resampling.BICUBIC)
    pictures = {"LR_image": small, "image": large}
    return {name: to_tensor(picture).movedim(1, -1) for name, picture in pictures.items()}


def run(
    model: nn.Module,
    selected: Any,
    task: str = "class_conditional",
    custom_steps: int = 20,
    eta: float | None = None,
    *,
    scale: float = 3.0,
    seed: int = 42,
) -> list[Image.Image]:
    """Draw what is selected and return the pictures.

    Args:
        model: Of ``get_model``.
        selected: Class numbers, a picture for each; or the small picture, or its path.
        task: What the model does.
        custom_steps: DDIM steps.
        eta: Noise that a step adds; None is 0 for classes and 1 for super-resolution.
        scale: Guidance, for classes.
        seed: Of the first picture; the next has the next seed.
    """
    if task == "superresolution":
        eta = 1.0 if eta is None else eta
        settings = UpscaleSettings(steps=custom_steps, eta=eta, seed=seed)
        upscaler = Upscaler(model, settings)
        return [Image.fromarray(large) for large in upscaler.pictures(_picture(selected))]
    labels = tuple(int(label) for label in selected)
    settings = SampleSettings(
        n_samples=len(labels),
        class_label=labels,
        custom_steps=custom_steps,
        eta=eta or 0.0,
        scale=scale,
        seed=seed,
    )
    settings.validate()
    drawn = SampleRun(model, settings, log_events).pictures()
    return [Image.fromarray(picture) for _, picture in drawn]


@torch.no_grad()
def convsample_ddim(
    model: nn.Module, cond: Any, steps: int, shape: Sequence[int], eta: float = 1.0, **options: Any
) -> tuple[Tensor, dict[str, list[Tensor]]]:
    """Return latents of a shape (B, C, h, w), and kept states; options as of ``DDIMSampler``."""
    options = {"verbose": False, **options}
    return DDIMSampler(model).sample(steps, shape[0], tuple(shape[1:]), cond, eta=eta, **options)


def show(pictures: Tensor | Sequence[Image.Image], columns: int) -> Image.Image:
    """Lay pictures out in lines; tensors (B, 3, H, W) are in [-1, 1]."""
    tensors = isinstance(pictures, Tensor)
    arrays = to_uint8(pictures) if tensors else [np.asarray(picture) for picture in pictures]
    return Image.fromarray(make_grid(list(arrays), columns))


def _picture(selected: Any) -> Image.Image:
    return selected if isinstance(selected, Image.Image) else load_image(selected)

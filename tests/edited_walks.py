"""Narrow hubs whose pictures depend on attention, and walks of a source and its edits.

The hubs have no text encoder: what stands for a prompt is a random vector for each token and place,
so that it is the tokens that tell prompts apart.

Shapes: P prompts, n pictures of each, latents (4, h, w); a drawn batch is (P, n, 4, h, w).
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from narrow_models import narrow_config
from torch import Tensor, nn

from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.seam import control_attention
from ldm.modules.attention_control.words import TokenizedPrompt, read_prompt
from ldm.modules.encoders.tokenizer import CLIPTokenizer
from ldm.pipelines.columns import ColumnNoise, ColumnSampler, repeated
from ldm.rng import PerImageNoise

CLIP = CLIPTokenizer()
WIDTH, LENGTH = 32, 77
HUBS: dict[str, tuple[str, dict[str, Any]]] = {
    # Maps at 1, 2 and 4 times smaller sides than the latents, as Stable Diffusion has.
    "three rates": ("v1", {"channel_mult": [1, 1, 1], "attention_resolutions": [1, 2, 4]}),
    "v1": ("v1", {}),
    "v2": ("v2-v", {}),
    "one head": ("v1", {"num_heads": 1}),
    "other": ("other", {}),
}


@cache
def hub(kind: str = "three rates") -> LatentDiffusion:
    """Return a hub of ``HUBS``, not to be modified. Its cross-attention has sharp maps."""
    name, changes = HUBS[kind]
    params = copy.deepcopy(narrow_config(name)["model"]["params"])
    params["unet_config"]["params"] |= changes
    params["scale_by_std"] = False
    params["cond_stage_config"] = {"target": "torch.nn.Identity"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LatentDiffusion(**params).eval()
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
        for name, parameter in model.named_parameters():
            if name.endswith(("attn2.to_q.weight", "attn2.to_k.weight", "proj_out.weight")):
                parameter.data *= 3.0
    return model


def read(text: str) -> TokenizedPrompt:
    return read_prompt(CLIP, text)


@cache
def _vector(kind: str, number: int) -> Tensor:
    seed = 2 * number + (kind == "place")
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))


def encoded(text: str) -> Tensor:
    """Return what stands for a prompt, (1, L, D)."""
    ids = read(text).ids
    rows = [_vector("token", id_) + 0.5 * _vector("place", n) for n, id_ in enumerate(ids)]
    return torch.stack(rows)[None]


def start(pictures: int = 1, side: tuple[int, int] = (16, 16), seed: int = 7) -> Tensor:
    """Return the noise that every prompt starts from, (n, 4, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(pictures, 4, *side, generator=generator)


@torch.no_grad()
def drawn(
    model: LatentDiffusion,
    prompts: list[str],
    controller: Controller | None = None,
    *,
    sampler: str = "ddim",
    steps: int = 4,
    scale: float = 3.0,
    pictures: int = 1,
    side: tuple[int, int] = (16, 16),
    columns: bool = False,
) -> Tensor:
    """Draw prompts from the same noise: all in one call of the model, or column by column."""
    rows = [repeated(encoded(text), pictures) for text in prompts]
    given = {
        "cond": torch.cat(rows),
        "unconditional_guidance_scale": scale,
        "unconditional_conditioning": repeated(encoded(""), len(prompts) * pictures),
    }
    walker = make_sampler(sampler, model)
    walker.make_schedule(steps, verbose=False)
    x, noise = start(pictures, side), PerImageNoise(range(pictures))
    if columns:
        walker = ColumnSampler(walker, len(prompts), pictures)
    else:
        x, noise = repeated(x, len(prompts)), ColumnNoise(noise, len(prompts))
    control = nullcontext() if controller is None else control_attention(model, controller)
    with control:
        for state in walker.walk(x, noise=noise, **given):
            x = state.x
    return x.unflatten(0, (len(prompts), pictures))


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())

"""Small IP-Adapter files of random numbers, of each published kind, for ``tiny_model.CONFIG``."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

CONTEXT, FEATURES, TOKENS, INNER = 32, 12, 4, 64
SHAPES = {str(2 * i + 1): INNER for i in range(4)}


def base_state(context=CONTEXT, features=FEATURES, inner=INNER) -> dict:
    return numbers(
        {
            "image_proj.proj.weight": (TOKENS * context, features),
            "image_proj.proj.bias": (TOKENS * context,),
            "image_proj.norm.weight": (context,),
            "image_proj.norm.bias": (context,),
            **attention(context, inner),
        }
    )


def full_state(features=FEATURES) -> dict:
    return numbers(
        {
            "image_proj.proj.0.weight": (features, features),
            "image_proj.proj.0.bias": (features,),
            "image_proj.proj.2.weight": (CONTEXT, features),
            "image_proj.proj.2.bias": (CONTEXT,),
            "image_proj.proj.3.weight": (CONTEXT,),
            "image_proj.proj.3.bias": (CONTEXT,),
            **attention(),
        }
    )


def plus_state(features=FEATURES, dim=16, depth=4) -> dict:
    """``depth`` 4 is the only one that diffusers reads."""
    shapes = {
        "latents": (1, 6, dim),
        "proj_in.weight": (dim, features),
        "proj_in.bias": (dim,),
        "proj_out.weight": (CONTEXT, dim),
        "proj_out.bias": (CONTEXT,),
        "norm_out.weight": (CONTEXT,),
        "norm_out.bias": (CONTEXT,),
    }
    for i in range(depth):
        first, second = f"layers.{i}.0", f"layers.{i}.1"
        norms = [f"{first}.norm1", f"{first}.norm2", f"{second}.0"]
        shapes |= {f"{n}.{part}": (dim,) for n in norms for part in ("weight", "bias")}
        shapes |= {
            f"{first}.to_q.weight": (128, dim),
            f"{first}.to_kv.weight": (256, dim),
            f"{first}.to_out.weight": (dim, 128),
            f"{second}.1.weight": (4 * dim, dim),
            f"{second}.3.weight": (dim, 4 * dim),
        }
    return numbers({f"image_proj.{name}": shape for name, shape in shapes.items()} | attention())


def attention(context=CONTEXT, inner=INNER) -> dict:
    """Two cross-attentions of tiny_model on the way up, one down, one in the middle: all wide."""
    return {
        f"ip_adapter.{n}.to_{part}_ip.weight": (inner, context) for n in SHAPES for part in "kv"
    }


def numbers(shapes: dict) -> dict:
    generator = torch.Generator().manual_seed(7)
    return {n: torch.randn(shape, generator=generator) * 0.4 for n, shape in shapes.items()}


def write_flat(path: Path, state: dict, metadata: dict | None = None) -> Path:
    save_file(state, path, metadata)
    return path


def write_bin(path: Path, state: dict) -> Path:
    nested: dict = {"image_proj": {}, "ip_adapter": {}}
    for name, value in state.items():
        part, rest = name.split(".", 1)
        nested[part][rest] = value
    torch.save(nested, path)
    return path

"""Write a training checkpoint as one safetensors file that holds what inference needs."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ldm.checkpoint.io import Checkpoint, read_checkpoint
from ldm.checkpoint.mapped import release_pages
from ldm.checkpoint.names import (
    EMA,
    TEXT,
    UNET,
    VAE,
    by_component,
    by_modern_name,
    component_of,
    ema_name,
    is_ballast,
    modern,
    recognise,
)
from ldm.checkpoint.write import save_safetensors, size_of, whole
from ldm.errors import UserError
from ldm.paths import exists, file_size

V1_SHAPES = {
    "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
}


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: The file.
        size: Its size in bytes.
        kept: Component to number of tensors.
        dropped: Component to number of the source's tensors that were left out.
        averaged: How many weights are moving averages.
    """

    path: Path
    size: int
    kept: dict[str, int]
    dropped: dict[str, int]
    averaged: int

    def summary(self) -> str:
        """Describe it in one line."""
        kept = ", ".join(f"{part} {count}" for part, count in self.kept.items())
        dropped = ", ".join(f"{part} {count}" for part, count in self.dropped.items()) or "nothing"
        averaged = f" ({self.averaged} weights are EMA averages)" if self.averaged else ""
        return (
            f"wrote {self.path}, {self.size / 1e9:.2f} GB: {kept} tensors{averaged}; "
            f"left out: {dropped}"
        )


def export_inference(
    ckpt: str | Path,
    out: str | Path,
    *,
    use_ema: bool = False,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write weights and schedule without averages, training losses and optimizer state.

    Args:
        ckpt: See ``read_checkpoint``; it is not modified.
        out: The file; its folder is made. Written to a temporary name first, then moved in place.
        use_ema: Take the moving average of each weight that has one (the UNet's at least).
        dtype: Element type of UNet, VAE and text encoder; None keeps the source's. The schedule
            keeps its own.
        metadata: Entries for the header, over those of the source and the ModelSpec defaults.
        overwrite: Replace ``out`` if it exists.

    Raises:
        UserError: The source cannot be read, holds no part of a model or has no averages for
            ``use_ema``, ``out`` does not
            end in ``.safetensors`` or exists, or the disk is full.
    """
    out = Path(out)
    if out.suffix.lower() != ".safetensors":
        raise UserError(f"output {str(out)!r} given; expected a name ending in .safetensors")
    if exists(out) and not overwrite:
        raise UserError(f"output {str(out)!r} exists; give another name, or --overwrite")
    checkpoint = read_checkpoint(ckpt)
    kept, averaged = inference_tensors(checkpoint, use_ema)
    _check_model(kept, checkpoint)
    header = describe(checkpoint, kept, out.stem) | dict(metadata or {})
    tensors = {}
    for name, value in kept.items():
        tensors[name] = converted(name, value, dtype)
        if checkpoint.mapped and tensors[name].data_ptr() != value.data_ptr():
            release_pages(value)
    with whole(out, size_of(tensors)) as part:
        save_safetensors(tensors, part, header)
    dropped = by_component(n for n in map(modern, checkpoint.tensors) if n not in kept)
    return ExportReport(
        path=out,
        size=file_size(out),
        kept={part: len(names) for part, names in by_component(kept).items()},
        dropped={part: len(names) for part, names in dropped.items()},
        averaged=averaged,
    )


def inference_tensors(checkpoint: Checkpoint, use_ema: bool) -> tuple[dict[str, Tensor], int]:
    """Select what inference needs, under current names, and count the averaged weights.

    Raises:
        UserError: No averages for ``use_ema``.
    """
    names = by_modern_name(checkpoint.tensors)
    tensors = {name: checkpoint.tensors[own] for name, own in names.items()}
    kept = {n: v for n, v in tensors.items() if component_of(n) != EMA and not is_ballast(n)}
    if not use_ema:
        return kept, 0
    averages = {name: tensors[ema_name(name)] for name in kept if ema_name(name) in tensors}
    unet = [name for name in kept if component_of(name) == UNET]
    absent = [name for name in unet if name not in averages]
    if absent or not averages:
        raise UserError(
            f"{checkpoint.path}: --use_ema given, but {len(absent)} of {len(unet)} UNet weights "
            "have no averaged (EMA) copy in it; expected 'model_ema.*' keys; leave --use_ema out"
        )
    return kept | averages, len(averages)


def _check_model(kept: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
    if any(component_of(name) in (UNET, VAE, TEXT) for name in kept):
        return
    looks = recognise({name: tuple(value.shape) for name, value in checkpoint.tensors.items()})
    raise UserError(
        f"checkpoint {str(checkpoint.path)!r} holds nothing of a UNet, VAE or text encoder of this "
        f"family{f' (it looks like {looks})' if looks else ''}; expected a model's training "
        "checkpoint; give that of the model"
    )


def converted(name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Convert a weight of UNet, VAE or text encoder to an element type; None keeps its own."""
    weight = component_of(name) in (UNET, VAE, TEXT) and value.is_floating_point()
    return value.to(dtype if weight and dtype is not None else value.dtype).contiguous()


def describe(checkpoint: Checkpoint, kept: Mapping[str, Tensor], title: str) -> dict[str, str]:
    """Describe the file by Stability's ModelSpec 1.0.0, and keep the source's own entries.

    The source's hash is dropped: it was that of another file.
    """
    spec = {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.date": datetime.date.today().isoformat(),
    }
    shapes = {name: tuple(kept[name].shape) for name in V1_SHAPES if name in kept}
    if shapes == V1_SHAPES:
        spec["modelspec.architecture"] = "stable-diffusion-v1"
        spec["modelspec.implementation"] = "https://github.com/CompVis/stable-diffusion"
    if checkpoint.global_step is not None:
        spec["global_step"] = str(checkpoint.global_step)
    return spec | {k: v for k, v in checkpoint.metadata.items() if "hash" not in k}

"""Read and write IP-Adapters: ``.bin`` of two dicts, and flat ``.safetensors``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.adapters.checks import load_exactly, named, require_finite
from ldm.adapters.ip_adapter.adapter import KIND, IPAdapter
from ldm.adapters.ip_adapter.encoders import given_encoder
from ldm.adapters.ip_adapter.projections import KINDS, kind_of
from ldm.adapters.report import Report, base_of_width
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.write import save_safetensors, size_of, whole
from ldm.errors import UserError
from ldm.legible import quoted

PROJECTION, ATTENTION = "image_proj.", "ip_adapter."
_LAYER = re.compile(r"ip_adapter\.(\d{1,4})\.to_([kv])_ip\.weight")
ENCODER = "image_encoder"
"""The metadata's entry that names what the adapter was trained with."""


def read_ip_adapter(path: str | Path, encoder: Any = None) -> IPAdapter:
    """Read an IP-Adapter: base, plus or full-face.

    Args:
        path: Its file.
        encoder: The local folder of a CLIPVisionModelWithProjection or a CLIPModel; or a function
            of a list of P pictures that returns features (P, F) for base, hidden states (P, L, F)
            for the others; or an ``ImageEncoder``, which several adapters may share. None takes
            what the file names, where that is the model's first stage.

    Raises:
        UserError: It is no IP-Adapter, a FaceID or SDXL one, or damaged.
    """
    file = read_checkpoint(path)
    path, state = file.path, file.tensors
    kind = _kind(path, state)
    encoder = None if encoder is None else given_encoder(encoder)
    require_finite(path, KIND, state)
    layers = _layers(path, state)
    width = next(iter(layers.values()))[1]
    report = Report(path, KIND, kind, base_of_width(width), modules=len(layers))
    if report.base == "SDXL":
        raise UserError(
            f"{KIND} {str(path)!r} is made for SDXL, whose UNet ldm does not have; expected one "
            "for v1 or v2; give ip-adapter_sd15 or its like"
        )
    try:
        with torch.device("meta"):
            projection = KINDS[kind].like(_below(PROJECTION, state))
            adapter = IPAdapter(projection, layers, report, encoder, file.metadata.get(ENCODER))
    except (KeyError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        raise UserError(
            f"{KIND} {str(path)!r} has an image_proj of kind {kind} that is not whole "
            f"({named([str(error)])}); expected all its tensors; download it again"
        ) from error
    report.unused = load_exactly(adapter, state, path, KIND)
    trained_with = adapter.encoder_name
    if trained_with and encoder is not None and encoder.name != trained_with:
        report.notes.append(
            f"{path.name} was trained with the image encoder {quoted(trained_with)}, and "
            f"{quoted(encoder.name)} is given"
        )
    return adapter.eval()


def write_ip_adapter(
    adapter: IPAdapter,
    path: str | Path,
    header: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write an adapter as flat safetensors, with the name of its image encoder in the metadata.

    Args:
        adapter: What was read or trained.
        path: The file; an existing one is replaced.
        header: What else the metadata shall hold.
        dtype: Type of the numbers in the file; None keeps theirs.
    """
    held = adapter.state_dict().items()
    state = {n: v.detach().cpu().to(dtype=dtype).contiguous() for n, v in held}
    own = {"format": "pt", ENCODER: adapter.encoder_name or ""}
    with whole(Path(path), size_of(state)) as part:
        save_safetensors(state, part, {**(header or {}), **own})


def _kind(path: Path, state: Mapping[str, Tensor]) -> str:
    """Return the kind of the image projection.

    Raises:
        UserError: It is none that is known, or FaceID.
    """
    kind = kind_of(set(_below(PROJECTION, state)))
    lora = any("_lora." in name for name in state if name.startswith(ATTENTION))
    if kind == "FaceID" or lora:
        raise UserError(
            f"{KIND} {str(path)!r} is a FaceID one, which needs a face recognizer and a LoRA; "
            f"expected {', '.join(KINDS)}; give ip-adapter-full-face or another of these"
        )
    if kind is None:
        raise UserError(
            f"{str(path)!r} is no {KIND} that is known (its keys: {named(state, 4)}); expected "
            "image_proj.* of base, plus or full-face, and ip_adapter.N.to_k_ip.weight; give one"
        )
    return kind


def _layers(path: Path, state: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Return by the layers' numbers, in order, the shape of their weights.

    Raises:
        UserError: Weights are missing or do not agree.
    """
    found: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if match := _LAYER.fullmatch(name):
            found.setdefault(int(match[1]), {})[match[2]] = value
    expected = [2 * i + 1 for i in range(len(found))]
    if not found or sorted(found) != expected:
        raise UserError(
            f"{KIND} {str(path)!r} numbers its layers {sorted(found)[:20]}; expected odd numbers "
            "from 1 on without a gap; download it again"
        )
    for number, pair in found.items():
        shapes = {tuple(value.shape) for value in pair.values()}
        if len(pair) != 2 or len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise UserError(
                f"{KIND} {str(path)!r} has for layer {number} weights of shapes {sorted(shapes)}; "
                "expected to_k_ip and to_v_ip of one shape; download it again"
            )
    return {str(number): tuple(found[number]["k"].shape) for number in expected}


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}

"""What an adapter that looks at pictures is, and whether it fits a model: by its shapes alone.

    looked_at("models/controlnet/canny.safetensors", model) -> Look("ControlNet", "")

No weights are read, so that a page can list many files. What fits by its shapes may still be
refused when it is read, for what else is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ldm.adapters.control.features import XL_UNSHUFFLE
from ldm.adapters.control.files import (
    CONTROL,
    CONTROL_NET,
    LIGHT,
    STEM,
    STYLE,
    T2I,
    kind_of_names,
)
from ldm.adapters.control.filling import unet_of_layers
from ldm.adapters.ip_adapter.adapter import KIND as IP_ADAPTER
from ldm.adapters.ip_adapter.adapter import attn2_in_file_order
from ldm.adapters.ip_adapter.encoders import OWN
from ldm.adapters.ip_adapter.files import ENCODER, PROJECTION
from ldm.adapters.ip_adapter.projections import KINDS, kind_of
from ldm.adapters.report import base_of_model, base_of_width
from ldm.checkpoint.diffusers.json_files import weights_in
from ldm.checkpoint.peek import Shape, peek_shapes
from ldm.checkpoint.safetensors_header import HeaderFault, read_header
from ldm.errors import UserError
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.paths import ERRORS, is_folder

DRAWN = (CONTROL_NET, T2I, LIGHT)
"""Kinds that look at a drawing."""
SEEN = (IP_ADAPTER, STYLE)
"""Kinds that look at a picture through an image encoder."""
_PICTURES = re.compile(r"ip_adapter\.(\d{1,4})\.to_k_ip\.weight")


@dataclass(frozen=True)
class Look:
    """What a file is.

    Attributes:
        kind: One of ``DRAWN`` or ``SEEN``; empty for any other file.
        fault: Why it cannot act on the model, as the end of a sentence; empty if it fits.
        needs_encoder: Whether it looks through a CLIP image encoder that has to be given.
    """

    kind: str
    fault: str = ""
    needs_encoder: bool = False


def looked_at(path: Path, model: nn.Module) -> Look:
    """Return what a file or folder is, and whether it fits a model; raises nothing.

    Args:
        path: The file, or a folder of diffusers.
        model: The hub.
    """
    try:
        files = weights_in(path, (STEM,)) if is_folder(path) else [path]
        shapes = {name: shape for file in files for name, shape in peek_shapes(file).items()}
        if not shapes:
            return Look("", "it cannot be read as weights")
        if any("position_net." in name or ".fuser." in name for name in shapes):
            return Look("", "a GLIGEN file, which draws things in boxes: programs take it by --box")
        if any(_PICTURES.fullmatch(name) for name in shapes):
            return _of_pictures(files[0], shapes, model)
        own = {n.removeprefix(CONTROL): v for n, v in shapes.items() if n.startswith(CONTROL)}
        kind, _ = kind_of_names(path, own or shapes)
        fault = _fault(kind, own or shapes, model, unet_of_layers(model))
        return Look(kind, fault, needs_encoder=kind == STYLE)
    except UserError as error:
        return Look("", str(error).replace(f"control {str(path)!r} ", "it "))


def _fault(kind: str, shapes: Mapping[str, Shape], model: nn.Module, unet: UNetModel) -> str:
    """Return why what looks at a drawing, or at a style, does not fit."""
    if kind == STYLE:
        return _other_base(shapes.get("proj", ())[1:2], model)
    if kind == CONTROL_NET:
        contexts = (v[1] for n, v in shapes.items() if n.endswith(".attn2.to_k.weight"))
        first = shapes.get("input_blocks.0.0.weight") or shapes.get("conv_in.weight") or (0,)
        other = _other_base([min(contexts, default=0)], model)
        return other or _other_widths(first[:1], [unet.model_channels])
    widths = [level.width for level in unet.layout.levels]
    ends = ".out_conv.weight" if kind == LIGHT else ".block1.weight"
    levels = sorted((_number(n), v[0]) for n, v in shapes.items() if n.endswith(ends))
    sees = [v[1] for n, v in shapes.items() if n.endswith(("conv_in.weight", "0.in_conv.weight"))]
    if any(each in (XL_UNSHUFFLE**2, 3 * XL_UNSHUFFLE**2) for each in sees):
        return "made for SDXL"
    return _other_widths([width for _, width in levels], widths)


def _of_pictures(path: Path, shapes: Mapping[str, Shape], model: nn.Module) -> Look:
    """Return what an IP-Adapter is."""
    names = {n.removeprefix(PROJECTION) for n in shapes if n.startswith(PROJECTION)}
    kind = kind_of(names)
    if kind not in KINDS:
        return Look(IP_ADAPTER, f"of the kind {kind or 'unknown'}; expected {', '.join(KINDS)}")
    numbered = ((_PICTURES.fullmatch(name), shape) for name, shape in shapes.items())
    made = [shape for _, shape in sorted((int(m[1]), v) for m, v in numbered if m)]
    layers = [tuple(each.to_k.weight.shape) for each in attn2_in_file_order(model)]
    fault = ""
    if made != layers:
        fault = _other_base(made[0][1:2], model) or f"made for a UNet of {len(made)} other layers"
    return Look(IP_ADAPTER, fault, needs_encoder=not _has_encoder(path))


def _has_encoder(path: Path) -> bool:
    """Return whether a file names a part of the model itself as its image encoder."""
    try:
        said = read_header(path).get("__metadata__") or {}
    except (HeaderFault, *ERRORS):
        return False
    return bool(OWN.fullmatch(str(said.get(ENCODER, ""))))


def _other_base(width: Iterable[int], model: nn.Module) -> str:
    made = base_of_width(next(iter(width), 0))
    own = base_of_model(model)
    return "" if made == own else f"made for {made}; the model is one of {own}"


def _other_widths(made: Iterable[int], own: Iterable[int]) -> str:
    made, own = list(dict.fromkeys(made)), list(dict.fromkeys(own))
    if made == own:
        return ""
    return f"made for a UNet of widths {_listed(made)}; the model's has {_listed(own)}"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers)) or "unknown"


def _number(name: str) -> list[int]:
    return [int(each) for each in re.findall(r"\.(\d+)\.", name)]

"""Read and write GLIGEN: the released checkpoints, extracts of them, and diffusers' folders."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ldm.adapters.checks import load_exactly, named, require_finite
from ldm.adapters.gligen.adapter import KIND, Gligen
from ldm.adapters.gligen.layers import Fuser, PositionNet
from ldm.adapters.report import Report, base_of_width
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.write import save_safetensors, size_of, whole
from ldm.errors import UserError
from ldm.paths import at_home, exists, is_folder

_OURS, _THEIRS = ("input_blocks", "middle_block", "output_blocks"), ("down", "mid", "up")
_HALF = rf"(?:{'|'.join(_OURS)}|(?:{'|'.join(_THEIRS)})_blocks?)"
_FUSER = re.compile(rf"(?:.*\.)?({_HALF}\.[\w.]*transformer_blocks\.\d+)\.fuser\.(.+)")
_BASE = re.compile(
    rf"(?:.*\.)?(?:{_HALF}|time_embed(?:ding)?|out|conv_in|conv_out|conv_norm_out)\."
)
_NET = re.compile(r"(?:.*\.)?position_net\.(.+)")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
INPUTS = 4
"""Channels of a UNet that does not inpaint."""


def read_gligen(path: str | Path) -> Gligen:
    """Read GLIGEN's text-box weights.

    Args:
        path: A released checkpoint, a file of its fusers and ``position_net`` alone under any
            prefix, or a diffusers folder: the pipeline's or the UNet's.

    Raises:
        UserError: It is none of these, damaged, or of another kind of GLIGEN.
    """
    file = read_checkpoint(_in_folder(at_home(path)))
    blocks, net, rest = _sorted_out(file.tensors)
    path = file.path
    _check_kind(path, blocks, net, list(file.tensors))
    require_finite(path, KIND, {n: v for b in blocks.values() for n, v in b.items()} | net)
    names = sorted(blocks, key=_place)
    theirs = not names[0].startswith(_OURS)
    try:
        with torch.device("meta"):
            fusers = [_fuser_like(blocks[name]) for name in names]
            width = len(net["null_positive_feature"])
            position_net = PositionNet(
                width, len(net["linears.4.bias"]), len(net["linears.0.bias"])
            )
            report = Report(path, KIND, "diffusers" if theirs else "original")
            adapter = Gligen(position_net, fusers, names, report)
    except (KeyError, IndexError, TypeError, ZeroDivisionError) as error:
        raise UserError(
            f"{KIND} {str(path)!r} is not whole ({named([str(error)])} is missing or of another "
            "shape); expected all of its fusers and its position_net; download it again"
        ) from error
    report.base, report.modules = base_of_width(fusers[0].linear.in_features), len(names)
    flat = {f"position_net.{n}": v for n, v in net.items()}
    for i, name in enumerate(names):
        flat |= {f"fusers.{i}.{n}": v for n, v in blocks[name].items()}
    report.unused = load_exactly(adapter, flat, path, KIND) + _unknown(rest, report)
    return adapter.eval()


def write_gligen(adapter: Gligen, path: str | Path) -> None:
    """Write fusers and ``position_net`` as safetensors, under the names of the UNet's blocks."""
    state = {f"position_net.{n}": v for n, v in adapter.position_net.state_dict().items()}
    for name, fuser in zip(adapter.names, adapter.fusers, strict=True):
        state |= {f"{name}.fuser.{n}": v for n, v in fuser.state_dict().items()}
    state = {n: v.detach().cpu().contiguous() for n, v in state.items()}
    with whole(Path(path), size_of(state)) as part:
        save_safetensors(state, part, {"format": "pt"})


def _in_folder(path: Path) -> Path:
    """Return a folder's file of weights, or the path itself."""
    if not is_folder(path):
        return path
    places = [folder / name for folder in (path / "unet", path) for name in WEIGHTS]
    found = next((place for place in places if exists(place)), None)
    if found is None:
        raise UserError(
            f"{KIND} {str(path)!r} is a folder without unet/{WEIGHTS[0]}; expected a diffusers "
            "pipeline, its UNet, or a file; give one of these"
        )
    return found


def _sorted_out(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor], dict[str, Tensor]]:
    """Return the fusers by block, the position net, and all else."""
    blocks: dict[str, dict[str, Tensor]] = {}
    net, rest = {}, {}
    for name, value in tensors.items():
        if match := _FUSER.fullmatch(name):
            blocks.setdefault(match[1], {})[match[2]] = value
        elif match := _NET.fullmatch(name):
            net[match[1]] = value
        else:
            rest[name] = value
    return blocks, net, rest


def _check_kind(path: Path, blocks: Mapping, net: Mapping, names: list[str]) -> None:
    """Refuse what is no GLIGEN for boxes with texts."""
    if not blocks or not net:
        raise UserError(
            f"{str(path)!r} is no {KIND} (its keys: {named(names, 4)}); expected "
            "...transformer_blocks.N.fuser.* and position_net.*; give a GLIGEN checkpoint"
        )
    if "linears.0.weight" not in net or "null_position_feature" not in net:
        kind = "texts and pictures in boxes" if "linears_text.0.weight" in net else "another input"
        raise UserError(
            f"{KIND} {str(path)!r} is made for {kind} (its position_net: {named(net, 3)}); expected"
            " one for boxes with texts; give a generation-text-box or inpainting-text-box file"
        )


def _place(name: str) -> tuple[int, ...]:
    """Return where a block stands in the order in which blocks compute."""
    half = next(i for i in range(3) if name.startswith((_OURS[i], _THEIRS[i])))
    return half, *(int(part) for part in name.split(".") if part.isdecimal())


def _fuser_like(state: Mapping[str, Tensor]) -> Fuser:
    """Build a fuser of the sizes that weights have; how many heads it has they do not tell."""
    dim, context_dim = state["linear.weight"].shape
    return Fuser(dim, context_dim, heads=1)


def _unknown(rest: Mapping[str, Tensor], report: Report) -> list[str]:
    """Return the names that are no copy of the base model; note that there is one."""
    base = {name for name in rest if _BASE.match(name)}
    if base:
        report.notes.append(
            f"{report.path.name}: {len(base)} tensors are a copy of the base model, which is drawn "
            "with its own"
        )
    inputs = [
        rest[name].shape[1]
        for name in base
        if name.endswith(("input_blocks.0.0.weight", "conv_in.weight"))
    ]
    if any(count > INPUTS for count in inputs):
        report.notes.append(f"{report.path.name}: its fusers were trained with an inpainting UNet")
    return [name for name in rest if name not in base]

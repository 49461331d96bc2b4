"""Read a control's file or folder and recognise whose it is, by its keys."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ldm.adapters.checks import require_finite
from ldm.checkpoint.diffusers.json_files import read_json, weights_in
from ldm.checkpoint.io import read_checkpoint
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.paths import at_home, is_file, is_folder

CONTROL = "control_model."
CONFIG, STEM = "config.json", "diffusion_pytorch_model"
CLDM, DIFFUSERS, ORIGINAL = "cldm", "diffusers", "TencentARC"
CONTROL_NET, T2I, LIGHT, STYLE = "ControlNet", "T2I-Adapter", "light T2I-Adapter", "style adapter"

_ELSEWHERE = {
    "lora_controlnet": "a Control-LoRA, which is made for SDXL",
    "task_embedding": "a ControlNet Union, which is made for SDXL",
    "motion_modules": "a SparseCtrl, which is made for films",
    "lllite": "a ControlLLLite, which is made for SDXL",
    "ip_adapter": "an IP-Adapter; give it as one",
    "lora_": "a LoRA; give it as one",
    "model.diffusion_model": "a whole model; give it with --ckpt",
}


@dataclass(frozen=True)
class Found:
    """What a path leads to.

    Attributes:
        path: The file or folder.
        kind: ``CONTROL_NET``, ``T2I``, ``LIGHT`` or ``STYLE``.
        form: Whose layout it has.
        tensors: Its weights, without a prefix that all have.
        settings: The ``config.json`` beside them, of a diffusers folder or file.
        notes: What else is to be said of the file.
    """

    path: Path
    kind: str
    form: str
    tensors: dict[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The path as messages show it."""
        return repr(str(self.path))


def find_control(path: str | Path) -> Found:
    """Read a control's weights.

    Args:
        path: A file, or a folder of diffusers (``config.json`` and its weights).

    Raises:
        UserError: It is missing, damaged, unsafe, or of no known kind.
    """
    path = at_home(path)
    files = [path]
    if is_folder(path):
        files = weights_in(path, (STEM,))
        if not files:
            raise UserError(
                f"folder {str(path)!r} has no {STEM}.safetensors; expected a diffusers folder of a "
                "ControlNet or T2I-Adapter, or a file; check the path"
            )
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= read_checkpoint(file).tensors
    beside = files[0].parent
    # A file of another name may lie beside a whole model's config.json.
    named = is_folder(path) or path.name.startswith(STEM)
    settings = read_json(beside, CONFIG) if named and is_file(beside / CONFIG) else {}
    return _recognised(path, tensors, settings)


def _recognised(path: Path, tensors: dict[str, Tensor], settings: Mapping[str, Any]) -> Found:
    own = {n.removeprefix(CONTROL): v for n, v in tensors.items() if n.startswith(CONTROL)}
    kind, form = kind_of_names(path, own or tensors)
    if not own or len(own) == len(tensors):
        return Found(path, kind, form, own or tensors, settings)
    note = (
        f"{path.name} holds a whole model; only its ControlNet is used, and the model that it is "
        "attached to draws"
    )
    return Found(path, kind, f"{form} (whole model)", own, settings, [note])


def kind_of_names(path: Path, tensors: Collection[str]) -> tuple[str, str]:
    """Return what weights are by their names, and whose names they have.

    Args:
        path: Their file, for messages.
        tensors: The names, without ``CONTROL`` before them.

    Raises:
        UserError: They are those of no known kind.
    """
    if "input_hint_block.0.weight" in tensors and "zero_convs.0.0.weight" in tensors:
        return CONTROL_NET, CLDM
    if "controlnet_cond_embedding.conv_in.weight" in tensors:
        return CONTROL_NET, DIFFUSERS
    if "style_embedding" in tensors:
        return STYLE, ORIGINAL
    plain = {name.removeprefix("adapter.") for name in tensors}
    resnets = any(re.match(r"(adapter\.)?body\.\d+\.resnets\.", name) for name in tensors)
    form = DIFFUSERS if resnets else ORIGINAL
    if "body.0.out_conv.weight" in plain:
        return LIGHT, form
    if "conv_in.weight" in plain and any(name.startswith("body.0.") for name in plain):
        return T2I, form
    raise _unknown(path, tensors)


def _unknown(path: Path, tensors: Collection[str]) -> UserError:
    expected = "expected a ControlNet, T2I-Adapter or style adapter for SD v1 or v2"
    for mark, what in _ELSEWHERE.items():
        if any(mark in name for name in tensors):
            return UserError(f"control {str(path)!r} is {what}; {expected}")
    such = f" (its keys are such as {quoted(next(iter(tensors)))})" if tensors else ""
    return UserError(f"control {str(path)!r} is of no known kind{such}; {expected}; check the file")


def check_values(found: Found) -> None:
    """Refuse weights that are no finite floating-point numbers.

    Raises:
        UserError: A tensor holds others.
    """
    for name, tensor in found.tensors.items():
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UserError(
                f"control {found.name} has {kind} numbers in {quoted(name)}; expected "
                "floating-point ones; download the file again"
            )
    require_finite(found.path, found.kind, found.tensors)

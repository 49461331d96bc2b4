"""torch.compile for a model's UNet and decoder, and the way back."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ldm.errors import UserError

COMPILERS = ("g++", "c++", "clang++")


def compile_model(model: Any, *, backend: str | Callable = "inductor") -> Callable[[], None]:
    """Compile a hub's UNet and its decoder, each at its first call; return what undoes it.

    A second size of picture is compiled once more, for every size from then on. Modules, keys and
    weights stay as they are.

    Args:
        model: A hub.
        backend: As ``torch.compile`` has it.
    """
    parts = [model.model.diffusion_model]
    decoder = getattr(model.first_stage_model, "decoder", None)
    parts += [decoder] if isinstance(decoder, nn.Module) else []
    before = [part._compiled_call_impl for part in parts]
    for part in parts:
        part.compile(backend=backend)

    def undo() -> None:
        for part, own in zip(parts, before, strict=True):
            part._compiled_call_impl = own

    return undo


def check_compiler(device: torch.device) -> None:
    """Check that there is what torch.compile makes machine code with.

    Raises:
        UserError: No C++ compiler for a processor, or no Triton for a CUDA device.
    """
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UserError(
            "--compile given; torch.compile needs the package triton on a CUDA device, which is "
            "not installed; install it, or leave --compile out"
        )
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    if device.type == "cpu" and not any(map(shutil.which, names)):
        raise UserError(
            "--compile given; torch.compile needs a C++ compiler on a processor, and none of "
            f"{', '.join(names)} was found; install one, or leave --compile out"
        )

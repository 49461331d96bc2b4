"""``read_control``: a drawing's adapter from a file, whatever kind it is of.

control = read_control("control_v11p_sd15_canny.safetensors", model)
with control.attach(model, Image.open("edges.png"), scale=0.8, end=0.7):
    pictures = ...
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ldm.adapters.control.files import CONTROL_NET, Found, check_values, find_control
from ldm.adapters.control.hints import Hint, Picture
from ldm.adapters.control.lent import Lent
from ldm.adapters.control.modes import BALANCED
from ldm.adapters.control.nets import NetHandle, read_net
from ldm.adapters.handle import Handle, Scale
from ldm.adapters.report import Report
from ldm.errors import UserError
from ldm.modules.diffusionmodules.control_net import HINT_RATE


def read_control(path: str | Path, model: nn.Module, *, pooled: bool | None = None) -> Control:
    """Read a ControlNet, T2I-Adapter or style adapter for a model.

    Args:
        path: A file, or a folder of diffusers.
        model: The hub that it will be attached to.
        pooled: Whether a ControlNet's outputs are averaged over all positions; None says so of
            files named ``shuffle`` and where diffusers' ``config.json`` does.

    Raises:
        UserError: The file is missing, damaged, unsafe, of no known kind, or for other models.
    """
    found = find_control(path)
    check_values(found)
    if found.kind == CONTROL_NET:
        network, report = read_net(found, model)
        return ControlNetControl(
            Lent(network), report, _pooled(found) if pooled is None else pooled
        )
    raise UserError("not yet")


def _pooled(found: Found) -> bool:
    named = "shuffle" in found.path.stem.lower()
    return bool(found.settings.get("global_pool_conditions", named))


class Control:
    """What was read.

    Attributes:
        report: What it is.
    """

    report: Report

    def attach(
        self, model: nn.Module, image: Picture, scale: Scale = 1.0, **options: Any
    ) -> Handle:
        """Let a model draw by an image until the handle's ``detach``."""
        raise NotImplementedError


class ControlNetControl(Control):
    """A ControlNet."""

    def __init__(self, network: Lent, report: Report, pooled: bool) -> None:
        self.network, self.report, self.pooled = network, report, pooled

    def attach(
        self,
        model: nn.Module,
        image: Picture,
        scale: Scale = 1.0,
        start: float = 0.0,
        end: float = 1.0,
        mode: str = BALANCED,
        *,
        scales: Sequence[float] | None = None,
        resize: str = "stretch",
    ) -> NetHandle:
        """Attach."""
        hint = Hint(image, resize, rate_of(model), HINT_RATE)
        return NetHandle(
            model,
            self.network,
            hint,
            scale,
            start=start,
            end=end,
            mode=mode,
            scales=scales,
            pooled=self.pooled,
        )


def rate_of(model: nn.Module) -> int:
    """Return the pixels of a picture along one position of its latent."""
    return getattr(getattr(model, "first_stage_model", None), "downsampling_factor", HINT_RATE)

"""Fill a network that was built beside a model with a file's weights, or say why it cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ldm.adapters.control.files import Found
from ldm.adapters.handle import require_unet
from ldm.adapters.report import Report, base_of_model, base_of_width, wrong_base
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.modules.diffusionmodules.openaimodel import UNetModel


def fill(network: nn.Module, state: Mapping[str, Tensor], found: Found, report: Report) -> None:
    """Make a file's tensors a network's weights; a mapped file stays mapped.

    Args:
        network: On the meta device.
        state: Weights by the network's names.
        found: The file.
        report: Learns which keys are not used.

    Raises:
        UserError: A weight is missing, is for a layer too many, or has another shape.
    """
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state]
    if missing:
        raise UserError(
            f"{found.kind} {found.name} lacks {len(missing)} weights that the model's layers need "
            f"(such as {quoted(missing[0])}); expected all; download the file again, or give one "
            "for this model"
        )
    fitting = {name: _as_wanted(state[name], wanted[name]) for name in wanted}
    for name, value in fitting.items():
        if value.shape != wanted[name].shape:
            raise UserError(
                f"{found.kind} {found.name} does not fit the model: {quoted(name)} has the shape "
                f"{tuple(value.shape)}, and {tuple(wanted[name].shape)} is expected; give one that "
                "was made for it"
            )
    others = [name for name in state if name not in wanted]
    parts = dict(network.named_children())
    if more := [name for name in others if name.split(".")[0] in parts]:
        raise UserError(
            f"{found.kind} {found.name} does not fit the model: it has {len(more)} weights for "
            f"layers that the model lacks (such as {quoted(more[0])}); give one that was made for "
            "it"
        )
    network.load_state_dict(fitting, strict=True, assign=True)
    network.eval().requires_grad_(False)
    report.unused += others
    report.modules = sum(1 for module in network.modules() if list(module.parameters(False)))


def _as_wanted(value: Tensor, wanted: Tensor) -> Tensor:
    """Return a 1x1 convolution as the linear layer that is wanted, or the other way round."""
    if value.ndim == wanted.ndim or value.numel() != wanted.numel():
        return value
    ends = (value.squeeze((-1, -2)).shape if value.ndim == 4 else value.shape)[:2]
    return value.reshape(wanted.shape) if ends == wanted.shape[:2] else value


def unet_of_layers(model: nn.Module) -> UNetModel:
    """Return the UNet beside which a control can be built.

    Raises:
        UserError: There is none, or none that says which layers it has.
    """
    unet = require_unet(model)
    if not isinstance(unet, UNetModel):
        raise UserError(
            f"a control was given for a {type(unet).__name__}; expected ldm's UNetModel or one "
            "derived from it; attach it to a model that has one"
        )
    return unet


def check_base(width: int, found: Found, model: Any, report: Report) -> None:
    """Say for which models a file is made by the width of its context, and refuse another.

    Raises:
        UserError: The model is of another family.
    """
    report.base = base_of_width(width)
    if report.base != base_of_model(model):
        raise wrong_base(found.path, found.kind, report.base, model)

"""Fill a network that was built without weights with a file's: strictly, or in one line why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ldm.adapters.control.files import Found
from ldm.adapters.report import Report, base_of_model, base_of_width, wrong_base
from ldm.errors import UserError
from ldm.legible import quoted


def fill(network: nn.Module, state: Mapping[str, Tensor], found: Found, report: Report) -> None:
    """Make a file's tensors a network's weights; a mapped file stays mapped.

    Args:
        network: On the meta device.
        state: Weights by the network's names.
        found: The file.
        report: Learns which keys are not used.

    Raises:
        UserError: A weight is missing, or has another shape.
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
    network.load_state_dict(fitting, strict=True, assign=True)
    network.eval().requires_grad_(False)
    report.unused += [name for name in state if name not in wanted]
    report.modules = sum(1 for module in network.modules() if list(module.parameters(False)))


def _as_wanted(value: Tensor, wanted: Tensor) -> Tensor:
    """Return a 1x1 convolution as the linear layer that is wanted, or the other way round."""
    if value.ndim == wanted.ndim or value.numel() != wanted.numel():
        return value
    ends = (value.squeeze((-1, -2)).shape if value.ndim == 4 else value.shape)[:2]
    return value.reshape(wanted.shape) if ends == wanted.shape[:2] else value


def check_base(width: int, found: Found, model: Any, report: Report) -> None:
    """Say for which models a file is made by the width of its context, and refuse another.

    Raises:
        UserError: The model is of another family.
    """
    report.base = base_of_width(width)
    if report.base != base_of_model(model):
        raise wrong_base(found.path, found.kind, report.base, model)

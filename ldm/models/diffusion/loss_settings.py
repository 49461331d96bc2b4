"""Checks of the parameters that describe a hub's loss, and of the loss itself.

Shapes: T training steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ldm.errors import UserError

if TYPE_CHECKING:
    from ldm.process.loss import DiffusionLoss

# Drawing a picture imports this file, so the parts of losses are imported where they are used.


def check_loss_settings(
    loss_type: str,
    snr_gamma: float | None,
    timestep_density: Sequence[float] | None,
    loss_config: Mapping[str, Any] | None,
) -> None:
    """Check the three short parameters of a loss, each under its own name.

    Raises:
        UserError: ``loss_type`` is not l1 or l2, ``snr_gamma`` not above 0, or
            ``timestep_density`` not a mean and a standard deviation above 0; or one is given beside
            ``loss_config``, which would overrule it in silence.
    """
    if loss_type not in ("l1", "l2"):
        raise UserError(f"loss_type {loss_type!r} given; expected l1 or l2")
    if snr_gamma is not None:
        from ldm.process.weighting import check_positive

        check_positive("snr_gamma", snr_gamma)
    if timestep_density is not None:
        from ldm.process.weighting import is_number

        numbers = list(timestep_density) if hasattr(timestep_density, "__len__") else []
        if len(numbers) != 2 or not all(map(is_number, numbers)) or not numbers[1] > 0:
            raise UserError(
                f"timestep_density {timestep_density!r} given; expected two numbers, a mean and a"
                " standard deviation above 0; correct it, for example to [0.0, 1.0]"
            )
    if loss_config is not None:
        _refuse_two_losses(loss_type, snr_gamma, timestep_density)


def _refuse_two_losses(
    loss_type: str, snr_gamma: float | None, timestep_density: Sequence[float] | None
) -> None:
    given = {"loss_type": loss_type != "l2", "snr_gamma": snr_gamma is not None}
    given["timestep_density"] = timestep_density is not None
    names = ", ".join(name for name, is_given in given.items() if is_given)
    if names:
        raise UserError(
            f"{names} given beside loss_config; expected one description of the loss; leave "
            f"{names} out and set kind, weighting and density of loss_config.params"
        )


def check_parts(loss: Any) -> None:
    """Check that a loss has what a hub asks of it.

    Raises:
        UserError: A part of ``DiffusionLoss`` is absent.
    """
    parts = ("kind", "weighting", "parameterization", "density")
    absent = [part for part in parts if not hasattr(loss, part)]
    if absent:
        raise UserError(
            f"a loss {type(loss).__name__} without {', '.join(absent)} given; expected the four"
            " parts of ldm.process.loss.DiffusionLoss; derive it from that class"
        )


def check_kind(loss: DiffusionLoss, shape: Sequence[int], like: Tensor) -> None:
    """Check that a loss gives each element's error, on zeros of ``shape``.

    Raises:
        UserError: The error has another shape.
    """
    with torch.no_grad():
        error = loss.kind(like.new_zeros(tuple(shape)), like.new_zeros(tuple(shape)))
    if tuple(error.shape) != tuple(shape):
        raise UserError(
            f"the loss's kind gives {tuple(error.shape)} for predictions {tuple(shape)}; expected"
            " the error of each element, of the same shape; leave averaging to the model"
        )


def check_table(name: str, table: Tensor, steps: int) -> None:
    """Check one weight a step (T,).

    Raises:
        UserError: The shape is another, or a weight is not finite.
    """
    if tuple(table.shape) != (steps,) or not torch.isfinite(table).all():
        raise UserError(
            f"{name} of shape {tuple(table.shape)} and values {table.min()} to {table.max()};"
            f" expected {steps} finite weights, one a training step; correct the loss's weighting"
            " or the noise schedule"
        )

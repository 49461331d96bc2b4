"""What a diffusion model minimises, in four parts that are chosen apart from each other.

Shapes: B batch, T training steps; samples (B, ...) of any shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ldm.building import build_from
from ldm.errors import UserError
from ldm.process import prediction
from ldm.process.density import Uniform
from ldm.process.prediction import Parameterization
from ldm.process.weighting import Coefficients, Unweighted, check_positive

Kind = Callable[[Tensor, Tensor], Tensor]
"""(prediction, target), both (B, ...), to the error of each element (B, ...)."""
Weighting = Callable[[Coefficients, Parameterization], np.ndarray]
"""See ``ldm.process.weighting``."""
Density = Callable[[int, int, torch.device | str], Tensor]
"""See ``ldm.process.density``."""


def l1(pred: Tensor, target: Tensor) -> Tensor:
    """Return the absolute error of each element."""
    return (pred - target).abs()


def l2(pred: Tensor, target: Tensor) -> Tensor:
    """Return the squared error of each element."""
    return (pred - target).square()


@dataclass(frozen=True)
class Huber:
    """The squared error up to ``delta``, beyond it the line that goes on from there.

    It is twice Huber's loss (1964), so that small errors cost what they cost in ``l2``. Outliers
    pull with a gradient of 2 ``delta`` at most.

    Args:
        delta: Where the line begins, above 0.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        check_positive("delta", self.delta)

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        return 2 * torch.nn.functional.huber_loss(pred, target, reduction="none", delta=self.delta)


KINDS: dict[str, Kind] = {"l1": l1, "l2": l2, "huber": Huber()}


class DiffusionLoss:
    """The loss of a diffusion model: its defaults are DDPM's, arXiv:2006.11239, Eq. 14.

    A hub draws its steps from ``density``, takes ``kind`` between prediction and target on
    ``parameterization``, averages over each sample, and weighs the samples by ``weighting``.

    Args:
        kind: ``l1``, ``l2``, ``huber``, or a ``Kind``.
        weighting: A ``Weighting``; without one all steps weigh alike.
        parameterization: Measure errors on eps, x0 or v, whatever the network predicts; without it,
            on what it predicts. With l2 another one is only another weighting.
        density: A ``Density``; without one all steps are drawn alike.

    The parts may also be ``target`` / ``params`` of what is to be built.

    Raises:
        UserError: An unknown name, a part that is neither, or a module with tensors.

    Example:
        >>> loss = DiffusionLoss("huber", {"target": "ldm.process.weighting.MinSNR"})
        >>> loss.kind, loss.weighting, loss.density
        (Huber(delta=1.0), MinSNR(gamma=5.0), Uniform())
    """

    def __init__(
        self,
        kind: str | Mapping[str, Any] | Kind = "l2",
        weighting: Mapping[str, Any] | Weighting | None = None,
        parameterization: str | None = None,
        density: Mapping[str, Any] | Density | None = None,
    ):
        if isinstance(kind, str) and kind not in KINDS:
            *names, last = KINDS
            raise UserError(
                f"loss_config.params.kind {kind!r} given; expected {', '.join(names)} or {last},"
                " or target and params of another"
            )
        self.kind: Kind = KINDS[kind] if isinstance(kind, str) else _part(kind, "kind", l2)
        self.weighting: Weighting = _part(weighting, "weighting", Unweighted())
        self.density: Density = _part(density, "density", Uniform())
        if parameterization is not None:
            prediction.check_parameterization(parameterization)
        self.parameterization = parameterization


def _part(part: Any, name: str, default: Any) -> Any:
    """Return a part, built if it is given as ``target`` / ``params``."""
    if part is None:
        return default
    if not callable(part):
        part = build_from(part, where=f"loss_config.params.{name}")
    if isinstance(part, nn.Module) and [*part.parameters(), *part.buffers()]:
        raise UserError(
            f"loss_config.params.{name} is a torch module {type(part).__name__} with tensors;"
            " expected a part without: no checkpoint has them and no optimizer; return a loss that"
            " is a module by make_loss of a subclass of the model"
        )
    return part

"""Set a model's plan of devices aside for a moment, so that its weights can be replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakValueDictionary

from torch import nn

from ldm.modules.attention_control.moments import unet_of


class Plan(Protocol):
    """A ``StagePlan``."""

    in_use: str | None

    def attach(self) -> Any:
        """Start managing the model."""

    def detach(self) -> None:
        """Restore the model as it was."""


PLANS: WeakValueDictionary[int, Plan] = WeakValueDictionary()
"""The plans that are attached, by the identity of their model's UNet."""


@contextmanager
def at_home(model: nn.Module) -> Iterator[None]:
    """Keep a model's weights on the host inside the block, where they may be replaced.

    A plan of the model, if it has one, is set aside and takes up the weights that it then finds.

    Raises:
        RuntimeError: A stage is in use.
    """
    plan = PLANS.get(id(unet_of(model)))
    if plan is None:
        yield
        return
    if plan.in_use is not None:
        raise RuntimeError(f"weights cannot be replaced while {plan.in_use} is in use")
    plan.detach()
    try:
        yield
    finally:
        plan.attach()

"""The contract of adapters: ``attach`` returns a handle, and its ``detach`` restores the model.

    adapter = read_lora("style.safetensors")    # what was read, and what it is: adapter.report
    handle = adapter.attach(model)              # the model draws with it
    handle.scale = 0.5                          # from the next call on
    handle.detach()                             # every tensor of the model is as it was, to the bit

Any number of adapters stacks, in any order, and leaves in any order. None adds, removes or renames
a key of the model: what they bring are hooks and plain tensors beside its modules.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import nn

from ldm.adapters.report import Report
from ldm.errors import UserError
from ldm.modules.attention_control.moments import Follower, Moment, unet_of

Scale = float | Callable[[Moment], float]
"""How strongly an adapter acts: a number, or a function of the step. 0 is not at all."""


class Adapter(Protocol):
    """What was read from an adapter's file."""

    report: Report

    def attach(self, model: nn.Module, scale: Scale = 1.0) -> Handle:
        """Let a model draw with the adapter, until the handle's ``detach``."""


class Handle(ABC):
    """An adapter on a model; also a context that detaches at its end.

    Args:
        model: The hub.
        scale: How strongly it acts.

    Attributes:
        attached: Whether it acts.
        scale: How strongly; may be set at any time.

    Raises:
        UserError: The model has no UNet that can be adapted.
    """

    def __init__(self, model: nn.Module, scale: Scale = 1.0) -> None:
        require_unet(model)
        self.model, self._scale, self.attached = model, scale, True
        self.follower = Follower(model, self._rest)
        self.follower.follow()

    @property
    def networks(self) -> Sequence[nn.Module]:
        """Networks beside the model that compute while it does."""
        return ()

    @property
    def scale(self) -> Scale:
        """How strongly the adapter acts."""
        return self._scale

    @scale.setter
    def scale(self, scale: Scale) -> None:
        self._scale = scale

    def strength(self) -> float:
        """Return the scale at the present step."""
        return at_moment(self._scale, self.follower.moment)

    def detach(self) -> None:
        """Give the model back as it was. A second call does nothing."""
        if self.attached:
            self.attached = False
            self.follower.leave()
            self._release()

    def _rest(self) -> None:  # noqa: B027 - most adapters have nothing to free
        """Free what only a walk needs; called when one is over."""

    @abstractmethod
    def _release(self) -> None:
        """Take away what was put on the model."""

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *error: Any) -> None:
        self.detach()


def at_moment(scale: Scale, moment: Moment) -> float:
    """Return a scale at one step."""
    return float(scale(moment)) if callable(scale) else float(scale)


def within(start: float, end: float, moment: Moment) -> bool:
    """Return whether a step lies between two fractions of its walk; outside of a walk, always.

    Step i of n begins at the fraction i/n. The last step belongs to what ends at 1.
    """
    if moment.number is None or not moment.total:
        return True
    begins = moment.number / moment.total
    return start <= begins and (begins < end or end >= 1.0)


def require_unet(model: nn.Module) -> nn.Module:
    """Return the UNet that adapters are attached to.

    Raises:
        UserError: There is none with ldm's blocks.
    """
    unet = unet_of(model)
    if unet is None:
        raise UserError(
            f"a {type(model).__name__} was given for an adapter; expected a diffusion model with "
            "ldm's UNet; give the model that load_model returns"
        )
    return unet

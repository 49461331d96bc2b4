"""What ControlNets and T2I-Adapters on a model have in common: a drawing, a window of steps, rows.

Shapes: b rows of a call, n hints, h w latent sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.control.hints import Hint, Picture, hint_tensor
from ldm.adapters.control.lent import Lent
from ldm.adapters.control.modes import BALANCED, PROMPT, chosen_rows, output_weights
from ldm.adapters.handle import Handle, Scale, require_unet, within
from ldm.errors import UserError
from ldm.modules.attention_control.moments import Moment
from ldm.modules.attention_control.parts import part_of_call

ASIDE: ContextVar[bool] = ContextVar("aside", default=False)
"""Whether the UNet is called for something else than the picture: a reference's features."""


@dataclass(frozen=True)
class Options:
    """How a control acts.

    Attributes:
        start: From which fraction of the steps on.
        end: Up to which fraction.
        mode: How its outputs are weighed and on which rows it acts, see ``modes``.
        scales: The user's own weights of the outputs, shallow first, before the mode's.
    """

    start: float = 0.0
    end: float = 1.0
    mode: str = BALANCED
    scales: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise UserError(
                f"a control from {self.start:g} to {self.end:g} of the steps given; expected "
                "fractions from 0 to 1, the first not above the second"
            )

    def cover(self, moment: Moment) -> bool:
        """Return whether a step lies between start and end."""
        return within(self.start, self.end, moment)


@dataclass(frozen=True)
class Acting:
    """What acts in one call of the UNet.

    Attributes:
        weights: Of each output.
        pictures: The number of the picture of each row that is controlled.
        some: The numbers of those rows; None is all.
    """

    weights: list[float]
    pictures: list[int]
    some: list[int] | None

    def of(self, value: Any) -> Any:
        """Return the controlled rows of a tensor, or of each tensor in a list."""
        if self.some is None or value is None:
            return value
        chosen = self.some
        return value[chosen] if isinstance(value, Tensor) else [each[chosen] for each in value]

    def add(self, features: Tensor, output: Tensor) -> Tensor:
        """Return features (b, ...) with an output added to the controlled rows."""
        if self.some is None:
            return features + output
        whole = features.clone()
        whole[self.some] += output
        return whole


class DrawnHandle(Handle):
    """A network on a model that sees a drawing.

    Args:
        model: The hub.
        network: The network, read for it.
        hint: The drawing.
        scale: How strongly it acts.
        options: When, where, and how its outputs are weighed.
        soft: The soft weights of its outputs.
    """

    def __init__(
        self,
        model: nn.Module,
        network: Lent,
        hint: Hint,
        scale: Scale,
        options: Options,
        soft: Sequence[float],
    ) -> None:
        self._weights = output_weights(options.mode, soft, options.scales)
        self._conditional = options.mode not in (BALANCED, PROMPT)
        self._lent, self._hint, self._options = network, hint, options
        self._made: tuple[Any, Any] | None = None
        super().__init__(model, scale)
        self._unet = require_unet(model)

    @property
    def networks(self) -> Sequence[nn.Module]:
        """The network that sees the drawing."""
        return (self._lent.network,)

    def show(self, image: Picture) -> None:
        """Draw by another hint from now on; in training, before each call of the model.

        Raises:
            UserError: See ``hint_tensor``.
        """
        self._hint.pixels, self._made = hint_tensor(image), None

    def _release(self) -> None:
        self._rest()

    def _rest(self) -> None:
        self._made = None
        self._lent.go_home()

    def _acting(self, count: int) -> Acting | None:
        """Return what acts in a call of ``count`` rows; None is nothing."""
        if ASIDE.get() or not self._options.cover(self.follower.moment):
            return None
        strength = self.strength()
        weights = [strength * weight for weight in self._weights]
        rows = self.follower.rows(count)
        chosen = chosen_rows(rows, self._conditional)
        if not any(weights) or not chosen:
            return None
        pictures = [rows[i].picture for i in chosen]
        return Acting(weights, pictures, None if len(chosen) == count else chosen)

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what is made of the hint, which is the same at every step of a walk.

        Of the part of it that the present call sees, where a picture is drawn in parts.
        """
        key = key, part_of_call()
        if self._made is None or self._made[0] != key or torch.is_grad_enabled():
            self._made = key, make()
        return self._made[1]


def weighed(output: Tensor, weight: float) -> Tensor:
    """Return an output by its weight."""
    return output if weight == 1.0 else output * weight

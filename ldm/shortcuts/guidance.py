"""Guidance in a part of a walk only, and guidance that keeps the spread of predictions.

Both go around another guider, see ``Denoiser.around``.
Shapes: B pictures, P parts of a batch, C channels, h w latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.adapters.handle import within
from ldm.errors import UserError
from ldm.modules.attention_control.moments import Follower
from ldm.process.stepwise_guidance import mapped
from ldm.types import Conditioning, Guider

PLAIN_LAYOUT = ("uncond", "cond")


class IntervalGuidance:
    """Guides between two fractions of a walk; elsewhere the model is asked for the prompts alone.

    arXiv:2404.07724 gives the interval in noise levels. Here it is in steps: that is how
    ``--control`` has it, and the share of them is the share of what is saved. Step i of n begins at
    the fraction i / n.

    Args:
        inner: Guides inside.
        follower: Knows the step.
        start: From which fraction on.
        end: Up to which.
    """

    def __init__(self, inner: Guider, follower: Follower, start: float, end: float) -> None:
        self.inner, self.follower, self.window = inner, follower, (start, end)

    def guides(self) -> bool:
        """Return whether the present step is in the interval; outside of a walk all are."""
        return within(*self.window, self.follower.moment)

    @property
    def layout(self) -> tuple[str, ...]:
        inner = layout_of(self.inner)
        return inner if self.guides() else tuple(part for part in inner if part != "uncond")

    def prepare(
        self, x: Tensor, t: Tensor, cond: Conditioning, uncond: Conditioning
    ) -> tuple[Tensor, Tensor, Conditioning]:
        whole = self.inner.prepare(x, t, cond, uncond)
        if self.guides():
            return whole
        layout, count = layout_of(self.inner), len(x)
        rows = slice(layout.index("cond") * count, (layout.index("cond") + 1) * count)
        total = len(layout) * count
        # What has other rows is the prompts' alone already, see ``join_conditioning``.
        conditioning = mapped(lambda each: each[rows] if len(each) == total else each, whole[2])
        return x, t, conditioning

    def combine(self, out: Tensor, t: Tensor) -> Tensor:
        return self.inner.combine(out, t) if self.guides() else out


class RescaledGuidance:
    """Brings guided predictions back to the standard deviation of the prompt's own.

    arXiv:2305.08891, Eq. 15 and 16: out' = phi out std(cond) / std(out) + (1 - phi) out, the
    standard deviations being those of each row.

    Args:
        inner: Guides.
        phi: 0 changes nothing.
    """

    def __init__(self, inner: Guider, phi: float) -> None:
        self.inner, self.phi = inner, phi

    @property
    def layout(self) -> tuple[str, ...]:
        return layout_of(self.inner)

    def prepare(self, *given: Any) -> tuple[Tensor, Tensor, Conditioning]:
        return self.inner.prepare(*given)

    def combine(self, out: Tensor, t: Tensor) -> Tensor:
        guided = self.inner.combine(out, t)  # (B, C, h, w)
        cond = out.chunk(len(self.layout))[self.layout.index("cond")]
        factor = spread(cond) / spread(guided)  # (B, 1, 1, 1)
        return torch.lerp(guided, guided * factor, self.phi)


def spread(x: Tensor) -> Tensor:
    """Return the standard deviation of each row of x (B, C, h, w): (B, 1, 1, 1)."""
    return x.std(dim=tuple(range(1, x.ndim)), keepdim=True)


def layout_of(guider: Guider) -> tuple[str, ...]:
    """Return the parts that a guider lays out."""
    layout: Sequence[str] = getattr(guider, "layout", PLAIN_LAYOUT)
    return tuple(layout)


def is_guided(guider: Guider, flag: str) -> bool:
    """Return whether a guider guides at all.

    Args:
        guider: The walk's.
        flag: The option that asks, for messages.

    Raises:
        UserError: It lays out several prompts for a picture: there is not one without guidance.
    """
    layout = layout_of(guider)
    if layout.count("cond") != 1:
        raise UserError(
            f"{flag} was given with a prompt of several parts (AND); expected one part, whose "
            f"prediction can stand alone; leave out {flag} or the parts"
        )
    return "uncond" in layout

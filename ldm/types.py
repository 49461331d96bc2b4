"""Interfaces (protocols) between the parts, such as what a sampler may assume of a model.

Shapes: B batch, C channels, h w latent sides, N M tokens, d head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Conditioning = Any
"""A tensor (B, L, D), a list of such tensors, or a dict of lists as LatentDiffusion takes it."""


Context = Tensor | Sequence[Tensor] | None
"""Tokens (B, L, context_dim), the same for all transformer blocks of a site or one for each."""

SideNetwork = Callable[[Tensor, Tensor, Context, Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]
"""A network beside the UNet: (x, timesteps, context, h, skips) -> h and skips for the second half.

It leaves what it is given as it is. x (B, in_channels, h, w) and timesteps (B,) are the UNet's own
inputs, h and skips what its first half made of them. Where deep features are reused, skips are
those of the first blocks alone, and h is returned as it is: it has been through all this before.
"""

Joint = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""What changes features where they meet a skip: (output block, h, skip) -> h and skip.

h (B, C, h', w') is what enters the output block, and skip (B, C', h', w') what is joined to it.
"""


class FeatureReuse(Protocol):
    """Keeps what a UNet's deep blocks make, and says in which calls that is used again.

    Attributes:
        shallow: How many input blocks are computed in every call; as many output blocks are.
    """

    shallow: int

    def recall(self, count: int) -> Tensor | None:
        """Return what enters the first shallow output block, of ``count`` rows; None: compute."""

    def keep(self, h: Tensor) -> None:
        """Take note of what entered it, where all blocks were computed."""


class EpsModel(Protocol):
    """All that a sampler assumes of a model; for a mask also ``q_sample(x0, t, noise)``."""

    num_timesteps: int
    alphas_cumprod: Tensor
    parameterization: str
    device: torch.device

    def apply_model(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Predict eps, x0 or v, as ``parameterization`` says: (B,C,h,w), (B,) -> (B,C,h,w)."""


class Guider(Protocol):
    """Turns one prediction into a guided one. Batch order is the reference's: [uncond, cond].

    One that lays out other parts, or more, says which in an attribute ``layout``, such as
    ``("uncond", "cond", "perturbed")``: attention control tells rows apart by it.
    """

    def prepare(
        self, x: Tensor, t: Tensor, cond: Conditioning, uncond: Conditioning
    ) -> tuple[Tensor, Tensor, Conditioning]:
        """Lay out the batch that the model is given."""

    def combine(self, out: Tensor, t: Tensor) -> Tensor:
        """Merge the model's output back to the sampler's batch size."""


class AttentionProcessor(Protocol):
    """The arithmetic of attention, replaceable: it has no parameters and no checkpoint keys."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, scale: float
    ) -> Tensor:
        """q (B,heads,N,d), k and v (B,heads,M,d) -> (B,heads,N,d)."""


@dataclass(frozen=True)
class SamplerState:
    """Where a sampler stands after one step.

    Attributes:
        x: Sample (B,C,h,w) after the step.
        x0: The step's estimate of the clean sample (B,C,h,w).
        eps: The guided noise estimate that the step used (B,C,h,w).
        i: Steps done before this one: 0 for the first.
        t: Model time of the step, on the scale 0 ... num_timesteps - 1.
        total: Steps of the whole walk.
    """

    x: Tensor
    x0: Tensor
    eps: Tensor
    i: int
    t: float
    total: int

"""Classifier-free guidance (arXiv:2207.12598, Eq. 6), in the reference's batch order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ldm.types import Conditioning


def join_conditioning(uncond: Conditioning, cond: Conditioning) -> Conditioning:
    """Stack two conditionings along the batch, ``uncond`` first.

    Tensors are concatenated; lists and dicts are joined entry by entry. An entry that ``uncond``
    has as None is ``cond``'s alone: so ControlNet's guess mode leaves the hint out of the empty
    prompt, and its model gives what hints there are to the last rows.

    Raises:
        ValueError: The two differ in structure.
    """
    if isinstance(cond, dict):
        if not isinstance(uncond, dict) or uncond.keys() != cond.keys():
            raise ValueError(f"conditioning has keys {sorted(cond)}; give unconditional the same")
        bare = [key for key in cond if uncond[key] is None]
        joined = {
            key: join_conditioning(uncond[key], c) for key, c in cond.items() if key not in bare
        }
        return joined | {key: cond[key] for key in bare}
    if isinstance(cond, (list, tuple)):
        if not isinstance(uncond, (list, tuple)) or len(uncond) != len(cond):
            raise ValueError(f"conditioning is a list of {len(cond)}; give unconditional the same")
        return [join_conditioning(u, c) for u, c in zip(uncond, cond, strict=True)]
    return torch.cat([uncond, cond])


class NoGuidance:
    """The conditional prediction as it is."""

    layout = ("cond",)

    def prepare(
        self,
        x: Tensor,
        t: Tensor,
        cond: Conditioning,
        uncond: Conditioning,
    ) -> tuple[Tensor, Tensor, Conditioning]:
        return x, t, self.join(cond, uncond)

    def join(self, cond: Conditioning, uncond: Conditioning) -> Conditioning:  # noqa: ARG002
        """Return the conditioning of a call: what ``prepare`` returns last."""
        return cond

    def combine(self, out: Tensor, t: Tensor) -> Tensor:  # noqa: ARG002 - the Guider interface
        return out


@dataclass
class ClassifierFreeGuidance:
    """uncond + scale * (cond - uncond), both from one call of the model.

    arXiv:2207.12598, Eq. 6: (1 + w) eps(x, c) - w eps(x), with ``scale`` = 1 + w. 0 is the
    unconditional model, 1 the conditional one, more moves away from the unconditional.
    The conditioning pair is joined once and kept while the same two objects come back.
    """

    scale: float

    layout: ClassVar[tuple[str, ...]] = ("uncond", "cond")

    def __post_init__(self) -> None:
        self._pair: tuple[Conditioning, Conditioning] | None = None
        self._joined: Conditioning = None

    def prepare(
        self, x: Tensor, t: Tensor, cond: Conditioning, uncond: Conditioning
    ) -> tuple[Tensor, Tensor, Conditioning]:
        return torch.cat([x, x]), torch.cat([t, t]), self.join(cond, uncond)

    def join(self, cond: Conditioning, uncond: Conditioning) -> Conditioning:
        """Return the conditioning of a call: what ``prepare`` returns last."""
        if self._pair is None or self._pair[0] is not uncond or self._pair[1] is not cond:
            self._pair, self._joined = (uncond, cond), join_conditioning(uncond, cond)
        return self._joined

    def combine(self, out: Tensor, t: Tensor) -> Tensor:  # noqa: ARG002 - the Guider interface
        out_uncond, out_cond = out.chunk(2)  # (2 B, C, h, w) -> (B, C, h, w) each
        return out_uncond + self.scale * (out_cond - out_uncond)


class RowGuidance(ClassifierFreeGuidance):
    """Classifier-free guidance with a scale for each picture.

    Args:
        scale: (B, 1, 1, 1), none of them 1.
    """

    scale: Tensor

    def combine(self, out: Tensor, t: Tensor) -> Tensor:
        self.scale = self.scale.to(out)
        return super().combine(out, t)


def make_guider(scale: float, uncond: Conditioning) -> NoGuidance | ClassifierFreeGuidance:
    """Return the guider that a scale asks for; scale 1 or no ``uncond`` means none."""
    if uncond is None or scale == 1.0:
        return NoGuidance()
    return ClassifierFreeGuidance(scale)

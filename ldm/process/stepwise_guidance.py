"""Guidance away from a conditioning of each step's own, as the inversion of a picture finds it.

Shapes: B inverted pictures, k prompts for each of them, n = k B rows of a walk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.process.guidance import ClassifierFreeGuidance
from ldm.types import Conditioning


def mapped(function: Callable[[Tensor], Tensor], cond: Conditioning) -> Conditioning:
    """Apply a function to every tensor of a conditioning; dicts and lists keep their kind."""
    if isinstance(cond, Mapping):
        return {key: mapped(function, part) for key, part in cond.items()}
    if isinstance(cond, list | tuple):
        return [mapped(function, part) for part in cond]
    return cond if cond is None else function(cond)


def tensors_of(cond: Conditioning) -> list[Tensor]:
    """List the tensors of a conditioning, in its order."""
    if isinstance(cond, Mapping):
        cond = list(cond.values())
    if isinstance(cond, list | tuple):
        return [tensor for part in cond for tensor in tensors_of(part)]
    return [] if cond is None else [cond]


class StepwiseGuidance:
    """uncond_t + scale * (cond - uncond_t), where uncond_t is the step's own.

    A walk may have k rows for each of the B pictures that the unconditionals are of: all B with
    one prompt, then all B with the next, and so on. Each of the k blocks has the same ones. The
    walk's own unconditional conditioning is not used.

    Args:
        scale: Of guidance, see ``ClassifierFreeGuidance``.
        unconds: What to move away from, of B rows, by the model time of the step.
    """

    layout: tuple[str, ...] = ("uncond", "cond")

    def __init__(self, scale: float, unconds: Mapping[int, Conditioning]) -> None:
        self.scale, self.unconds = scale, unconds
        self._plain = ClassifierFreeGuidance(scale)
        # Steps may share one conditioning; it is repeated, and joined to ``cond``, once.
        self._source: Conditioning = None
        self._rows, self._repeated = 0, None

    def prepare(
        self,
        x: Tensor,
        t: Tensor,
        cond: Conditioning,
        uncond: Conditioning,  # noqa: ARG002 - the Guider interface
    ) -> tuple[Tensor, Tensor, Conditioning]:
        """Lay out the batch that the model is given, for rows of one time.

        Raises:
            UserError: There is nothing for this time, or the rows are not k times B.
        """
        return self._plain.prepare(x, t, cond, self._for_rows(self.at(t), x.shape[0]))

    def combine(self, out: Tensor, t: Tensor) -> Tensor:
        return self._plain.combine(out, t)

    def at(self, t: Tensor) -> Conditioning:
        """Return the unconditional conditioning (B rows) of a model time (n,).

        Raises:
            UserError: There is none, or the rows are at different times.
        """
        times = sorted(set(t.tolist()))  # one transfer for all rows
        if len(times) == 1 and times[0] in self.unconds:
            return self.unconds[times[0]]
        known = f"one of {len(self.unconds)} from {min(self.unconds)} to {max(self.unconds)}"
        raise UserError(
            f"model time {', '.join(f'{time:g}' for time in times)} given; expected {known}, at "
            "which the picture was inverted; walk with the inversion's sampler, schedule and steps"
        )

    def _for_rows(self, uncond: Conditioning, rows: int) -> Conditioning:
        if uncond is self._source and rows == self._rows:
            return self._repeated
        count = tensors_of(uncond)[0].shape[0]
        if rows % count:
            raise UserError(
                f"a walk of {rows} rows given; expected a multiple of the {count} inverted "
                "pictures; repeat all of them for each prompt"
            )
        k = rows // count
        repeated = uncond if k == 1 else mapped(lambda part: torch.cat([part] * k), uncond)
        self._source, self._rows, self._repeated = uncond, rows, repeated
        return repeated

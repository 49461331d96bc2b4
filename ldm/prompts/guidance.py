"""Guidance by prompts that change from step to step, and by several at once.

    eps = uncond + scale * sum of weight * (part - uncond) over the parts (arXiv:2206.01714, Eq. 11)

Shapes: B pictures, P parts of a prompt, C channels, h w latent, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from ldm.modules.attention_control.moments import Follower
from ldm.process.guidance import join_conditioning
from ldm.prompts.encoding import EncodedPart, PromptEncoder
from ldm.types import Conditioning

Parts = Sequence[EncodedPart]


def needs_uncond(scale: float, rows: Sequence[Parts]) -> bool:
    """Return whether a scale and prompts ask for an unconditional prediction."""
    return scale != 1.0 or any(len(parts) > 1 or parts[0].weight != 1.0 for parts in rows)


class PromptGuidance:
    """Lays out, step by step, what each picture's prompt is at that step.

    In the batch the unconditional rows are first, if there are any, then all pictures with their
    first part, all with their second, and so on. A picture with fewer parts than another has its
    first once more, with weight 0. What the walk is given as conditioning is used for all but the
    text.

    Args:
        model: The hub, whose walks are followed.
        scale: Of guidance.
        conds: The parts of each of B pictures.
        unconds: What to steer away from, of each; None where nothing asks for it.
        encoder: Brings states to one length.
    """

    def __init__(
        self,
        model: Any,
        scale: float,
        conds: Sequence[Parts],
        unconds: Sequence[Parts] | None,
        encoder: PromptEncoder,
    ) -> None:
        self.scale: float | Tensor = scale  # a tensor where pictures have their own
        self.follower = Follower(model)
        parts = max(map(len, conds))
        filled = [[*row, *[row[0]] * (parts - len(row))] for row in conds]
        columns = [[row[part] for row in filled] for part in range(parts)]
        weights = [[row[n].weight if n < len(row) else 0.0 for row in conds] for n in range(parts)]
        self._weights = [torch.tensor(each).reshape(-1, 1, 1, 1) for each in weights]
        self._guided = unconds is not None
        if self._guided:
            columns.insert(0, [row[0] for row in unconds])
        self.layout = (*["uncond"] * self._guided, *["cond"] * parts)
        self._columns = _of_one_length(columns, encoder)
        self._last: tuple[Any, Tensor] | None = None

    @classmethod
    def joined(cls, guiders: Sequence[PromptGuidance]) -> PromptGuidance:
        """Return one for the pictures of several of one ``form``, each with its own scale."""
        made = copy(guiders[0])
        made.scale = torch.tensor([each.scale for each in guiders]).reshape(-1, 1, 1, 1)
        weights, columns = [g._weights for g in guiders], [g._columns for g in guiders]
        made._weights = [torch.cat(rows) for rows in zip(*weights, strict=True)]
        made._columns = [list(chain(*rows)) for rows in zip(*columns, strict=True)]
        made._last = None
        return made

    @property
    def form(self) -> tuple[Any, ...]:
        """What has to be equal where pictures share a walk: the layout, and the text's shape."""
        return self.layout, self._columns[0][0].states[0].shape

    @property
    def is_plain(self) -> bool:
        """Whether it does no more than plain guidance by the first step's text."""
        parts = [part for column in self._columns for part in column]
        return len(self._weights) == 1 and all(
            len(part.states) == 1 and part.weight == 1.0 for part in parts
        )

    @contextmanager
    def following(self) -> Iterator[None]:
        """Know the steps of the model's walks inside the block."""
        self.follower.follow()
        try:
            yield
        finally:
            self.follower.leave()

    def context(self, step: int) -> Tensor:
        """Return the text of all rows at a step, counted from 0: (parts * B, N, D)."""
        numbers = [part.number_at(step) for column in self._columns for part in column]
        if self._last is None or self._last[0] != numbers:
            parts = [part for column in self._columns for part in column]
            picked = [part.states[n] for part, n in zip(parts, numbers, strict=True)]
            self._last = numbers, torch.stack(picked)
        return self._last[1]

    def conditionings(self) -> dict[str, Tensor]:
        """Return the first step's text as keywords of ``Sampler.walk``, (B, N, D) each."""
        first = self.context(0).chunk(len(self.layout))
        if not self._guided:
            return {"cond": first[0]}
        return {"unconditional_conditioning": first[0], "cond": first[1]}

    def prepare(
        self, x: Tensor, t: Tensor, cond: Conditioning, uncond: Conditioning
    ) -> tuple[Tensor, Tensor, Conditioning]:
        """Lay out the batch that the model is given.

        Raises:
            UserError: No walk is under way.
        """
        step = self.follower.moment.require_walk().number
        count = len(self.layout)
        others = [uncond if part == "uncond" else cond for part in self.layout]
        whole = _with_text(others, self.context(step).to(x.device))
        return torch.cat([x] * count), torch.cat([t] * count), whole

    def combine(self, out: Tensor, t: Tensor) -> Tensor:  # noqa: ARG002 - the Guider interface
        outs = out.chunk(len(self.layout))  # (B, C, h, w) each
        if not self._guided:
            return outs[0]
        uncond, *parts = outs
        scale = self.scale.to(out) if isinstance(self.scale, Tensor) else self.scale
        if len(parts) == 1 and bool((self._weights[0] == 1).all()):
            return uncond + scale * (parts[0] - uncond)
        guided = uncond
        for part, weights in zip(parts, self._weights, strict=True):
            guided = guided + scale * weights.to(out) * (part - uncond)
        return guided


def _with_text(conditionings: list[Conditioning], context: Tensor) -> Conditioning:
    """Join conditionings row by row, with another text in place of theirs."""
    if not isinstance(conditionings[0], Mapping):
        return context
    joined = conditionings[0]
    for each in conditionings[1:]:
        joined = join_conditioning(joined, each)
    return {**joined, "c_crossattn": [context]}


def _of_one_length(
    columns: Sequence[Sequence[EncodedPart]], encoder: PromptEncoder
) -> list[list[EncodedPart]]:
    """Return parts whose states of all steps have one length."""
    parts = list({id(part): part for column in columns for part in column}.values())
    equal = iter(encoder.equal([state for part in parts for state in part.states]))
    made = {
        id(part): EncodedPart(part.weight, part.ends, tuple(next(equal) for _ in part.states))
        for part in parts
    }
    return [[made[id(part)] for part in column] for column in columns]

"""Encode prompts as AUTOMATIC1111's web UI does: rows of 75 tokens, weights on their states.

Shapes: T texts, R rows of each, L tokens of a row, N = R L, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.prompts.a1111 import Part, parse_a1111
from ldm.prompts.emphasis import Piece, pieces
from ldm.prompts.encoding import EncodedPart, PromptEncoder, repeated
from ldm.prompts.rows import RowMaker


class A1111Encoder(PromptEncoder):
    """Encodes AUTOMATIC1111's grammar.

    Args:
        conditioner: See ``PromptEncoder``.
        steps: Of the walk, for prompts that change on the way.
        clip_skip: See ``PromptEncoder``.
        emphasis: ``original`` keeps the mean of the states, ``no-norm`` does not; ``ignore`` reads
            weights and does not use them, ``none`` takes all brackets for text.
    """

    def __init__(
        self, conditioner: Any, steps: int, clip_skip: int = 1, emphasis: str = "original"
    ) -> None:
        super().__init__(conditioner, clip_skip)
        self.steps, self.emphasis = steps, emphasis
        self.maker = RowMaker(conditioner.tokenizer)

    def _encode(self, prompt: str, negative: bool) -> tuple[EncodedPart, ...]:
        read = parse_a1111(prompt, self.steps, composes=not negative)
        made = [self._part(part) for part in read.parts]
        longest = max(len(part.states[0]) for part in made)
        return tuple(_with_length(part, longest) for part in made)

    def equal(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return states (N, D) in one length; see ``repeated``."""
        return repeated(states)

    def _part(self, part: Part) -> EncodedPart:
        ends, texts = zip(*part.schedule, strict=True)
        counts = {text: texts.count(text) for text in dict.fromkeys(texts)}
        made = dict(zip(counts, self.texts(list(counts), list(counts.values())), strict=True))
        return EncodedPart(part.weight, ends, tuple(made[text] for text in texts))

    def texts(self, texts: Sequence[str], counts: Sequence[int]) -> list[Tensor]:
        """Encode the texts of one prompt's steps.

        Args:
            texts: T different ones, with weights in them.
            counts: How often each stands in the prompt's schedule: the web UI takes the mean that
                ``original`` keeps over all of them, row by row.

        Returns:
            T states (N, D).
        """
        rows = [self.maker.rows(self._pieces(text)) for text in texts]
        longest = max(map(len, rows))
        rows = [each + [self.maker.empty] * (longest - len(each)) for each in rows]
        done = []
        for column in zip(*rows, strict=True):
            z = self.states_of(column)  # (T, L, D)
            weights = torch.tensor([row.weights for row in column], device=z.device, dtype=z.dtype)
            done.append(self._emphasised(z, weights, torch.tensor(counts).to(z)))
        return list(torch.cat(done, dim=1))  # (T, N, D)

    def _pieces(self, text: str) -> list[Piece]:
        return [Piece(text, 1.0)] if self.emphasis == "none" else pieces(text)

    def _emphasised(self, z: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
        """Return the states (T, L, D) of a row, times the weights (T, L)."""
        if self.emphasis in ("ignore", "none") or bool((weights == 1).all()):
            return z
        weighted = z * weights[..., None]
        if self.emphasis == "no-norm":
            return weighted
        before, after = ((each.mean((1, 2)) * counts).sum() for each in (z, weighted))
        return weighted * (before / after)


def _with_length(part: EncodedPart, length: int) -> EncodedPart:
    """Return a part with N tokens: as in the web UI the last one is repeated."""
    missing = length - len(part.states[0])
    if not missing:
        return part
    grown = tuple(torch.cat([each, each[-1:].expand(missing, -1)]) for each in part.states)
    return EncodedPart(part.weight, part.ends, grown)

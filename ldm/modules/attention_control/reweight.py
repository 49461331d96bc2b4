"""Make words count more or less, on top of another edit or by itself.

Shapes: heads, N queries, L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.attention_control.edit import PromptEdit, by_prompt
from ldm.modules.attention_control.words import TokenizedPrompt


class Reweight(PromptEdit):
    """Attention re-weighting, arXiv:2208.01626, section 3.2: the maps of words times a factor.

    Rows then do not sum to 1, as published. A factor may be 0 or negative.

    Args:
        source: The prompt of the picture that is edited.
        targets: Edited prompts; without ``prior`` their tokens are taken to stand where the
            source's do.
        weights: Factor by word.
        prior: The edit whose maps are weighted; None takes the source's as they are.
        **windows: As ``PromptEdit`` takes them.

    Raises:
        UserError: A weight is no finite number, its word is in none of the targets, or ``prior``
            is of other ones.
    """

    def __init__(
        self,
        source: TokenizedPrompt,
        targets: Sequence[TokenizedPrompt],
        weights: Mapping[str, float],
        *,
        prior: PromptEdit | None = None,
        **windows: Any,
    ) -> None:
        super().__init__(source, targets, **windows)
        if prior is not None and prior.targets != self.targets:
            raise UserError(
                f"weights for {len(self.targets)} edited prompts were given with an edit of others;"
                " expected the same prompts in the same order; make both of the same targets"
            )
        self.prior = prior
        self.factors = [
            equalizer(target, own)
            for target, own in zip(targets, by_prompt(weights, targets), strict=True)
        ]

    def edited(self, base: Tensor, own: Tensor, target: int) -> Tensor:
        maps = base if self.prior is None else self.prior.edited(base, own, target)
        return maps * self.factors[target].to(own)


def equalizer(prompt: TokenizedPrompt, weights: Mapping[str, float]) -> Tensor:
    """Return the factor of each token (L,): 1 but for the words that ``weights`` names.

    Raises:
        UserError: A weight is no finite number, or its word is not in the prompt.
    """
    factors = torch.ones(prompt.length)
    for word, weight in weights.items():
        if not isinstance(weight, Real) or not math.isfinite(weight):
            raise UserError(
                f"the weight {weight!r} of {word!r} was given; expected a finite number; change it"
            )
        factors[list(prompt.positions(word))] = float(weight)
    return factors

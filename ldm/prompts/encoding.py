"""What prompts with a grammar are encoded to, and the encoders that all syntaxes share.

Shapes: B pictures, R rows of a text encoder, L tokens of a row, N tokens of a prompt (a multiple of
L), D width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ldm.budgets import PROMPT_ROWS
from ldm.errors import UserError
from ldm.prompts.rows import Row

ROWS_AT_ONCE = 32
KEPT = 64
"""Prompts whose states are kept: a file of prompts may have thousands."""


@dataclass(frozen=True, eq=False)
class EncodedPart:
    """One of the prompts that are composed, over the steps.

    Attributes:
        weight: How strongly the pictures follow it.
        ends: The last step of each state; rising.
        states: (N, D) each, all of one length.
    """

    weight: float
    ends: tuple[int, ...]
    states: tuple[Tensor, ...]

    def number_at(self, step: int) -> int:
        """Return which state a step has, counted from 0.

        As in the web UI a text up to step k is for the steps 0 ... k: they count from 0 there when
        a picture is drawn, and from 1 where a prompt is read.
        """
        last = len(self.ends) - 1
        return next((n for n, end in enumerate(self.ends) if step <= end), last)


class PromptEncoder(ABC):
    """Encodes prompts of one syntax with a conditioner.

    Args:
        conditioner: With ``tokenizer`` and ``encode_ids``, as CLIP's are.
        clip_skip: Which block's states are used, counted from the end: 1 is the conditioner's own.

    Raises:
        UserError: The conditioner cannot, or has fewer blocks.
    """

    def __init__(self, conditioner: Any, clip_skip: int = 1) -> None:
        if not hasattr(conditioner, "encode_ids"):
            raise UserError(
                f"--prompt_syntax or --clip_skip was given; the model's text encoder, a "
                f"{type(conditioner).__name__}, reads plain text only; expected CLIP's; use "
                "--prompt_syntax compvis and --clip_skip 1"
            )
        if not 1 <= clip_skip <= conditioner.blocks:
            raise UserError(
                f"--clip_skip {clip_skip} was given; the model's text encoder has "
                f"{conditioner.blocks} blocks; give 1, its last, to {conditioner.blocks}"
            )
        self.conditioner, self.skipped = conditioner, clip_skip - 1
        self._known: dict[tuple[str, bool, bool], tuple[EncodedPart, ...]] = {}

    def encode(self, prompt: str, *, negative: bool = False) -> tuple[EncodedPart, ...]:
        """Return a prompt's parts, encoded the first time that it is asked for.

        Args:
            prompt: The prompt.
            negative: Whether it is what guidance steers away from.

        Raises:
            UserError: The prompt cannot be drawn.
        """
        # What half precision made useless is encoded again without it.
        key = prompt, negative, any(map(torch.is_autocast_enabled, ("cpu", "cuda", "mps")))
        if key not in self._known:
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[key] = self._encode(prompt, negative)
        return self._known[key]

    @abstractmethod
    def _encode(self, prompt: str, negative: bool) -> tuple[EncodedPart, ...]:
        """Encode a prompt."""

    @abstractmethod
    def equal(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return states (N, D) in one length, for one batch."""

    def states(self, ids: Sequence[Sequence[int]], mask: Tensor | None = None) -> Tensor:
        """Return the states (R, L, D) of rows of ids, R lists of L; ``mask`` is (R, L)."""
        done = []
        for start in range(0, len(ids), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            some = torch.tensor(ids[rows], dtype=torch.long)
            kept = None if mask is None else mask[rows]
            done.append(self.conditioner.encode_ids(some, self.skipped, kept))
        return torch.cat(done)

    def states_of(self, rows: Sequence[Row]) -> Tensor:
        """Return the states (R, L, D) of rows."""
        return self.states([row.ids for row in rows])


class PlainEncoder(PromptEncoder):
    """Encodes plain text, from another block than the last.

    Args:
        conditioner: See ``PromptEncoder``.
        clip_skip: See ``PromptEncoder``.
        mixture: Returns the texts that a prompt is a mixture of, and their shares.
    """

    def __init__(
        self, conditioner: Any, clip_skip: int, mixture: Callable[[str], list[tuple[str, float]]]
    ) -> None:
        super().__init__(conditioner, clip_skip)
        self.mixture = mixture

    def _encode(self, prompt: str, negative: bool) -> tuple[EncodedPart, ...]:  # noqa: ARG002
        texts, shares = zip(*self.mixture(prompt), strict=True)
        states = self.conditioner.encode_ids(self.conditioner.tokens(list(texts)), self.skipped)
        mixed = (states * torch.tensor(shares).to(states)[:, None, None]).sum(0)
        return (EncodedPart(1.0, (0,), (mixed,)),)

    def equal(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return states as they are: all have L tokens."""
        return list(states)


def repeated(states: Sequence[Tensor]) -> list[Tensor]:
    """Return states (N, D) in one length, without any influence on what is drawn.

    Attention over tokens that are all there k times is attention over the tokens, so each is
    repeated up to the least common multiple of the lengths.

    Raises:
        UserError: That is too long.
    """
    lengths = {len(each) for each in states}
    length = math.lcm(*lengths)
    row = math.gcd(*lengths)
    if len(lengths) > 1 and length > PROMPT_ROWS * row:
        given = ", ".join(str(each // row) for each in sorted(lengths))
        raise UserError(
            f"prompts of {given} rows of tokens are drawn together; expected lengths with a common "
            f"multiple of at most {PROMPT_ROWS}; bring them to one length with BREAK, or draw them "
            "with --n_samples 1"
        )
    return [each.repeat(length // len(each), 1) for each in states]

"""Encode prompts as the package compel does: states move away from the empty prompt's.

    state = empty + weight * (state - empty)
    a fragment that weighs less than 1 is mixed with the prompt in which nobody may look at it

It is compel with ``truncate_long_prompts=False`` and its other defaults.
Shapes: R rows, L tokens of a row, N = R L, D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.budgets import PROMPT_ROWS
from ldm.errors import UserError
from ldm.prompts.compel_grammar import Fragment, Term, parse_compel
from ldm.prompts.encoding import EncodedPart, PromptEncoder
from ldm.prompts.rows import Row, RowMaker

LEAST = 1e-5  # of a weight, where its tangent is taken
_ENDINGS = ((".",), (".", ",", ";", ":"))
_MOST_FADED = 256  # fragments of one prompt: each is a prompt of its own to encode


class CompelEncoder(PromptEncoder):
    """Encodes compel's grammar.

    Args:
        conditioner: See ``PromptEncoder``; its tokenizer is CLIP's.
        clip_skip: See ``PromptEncoder``.

    Raises:
        UserError: As ``PromptEncoder``, or the tokenizer is another.
    """

    def __init__(self, conditioner: Any, clip_skip: int = 1) -> None:
        super().__init__(conditioner, clip_skip)
        vocabulary = getattr(conditioner.tokenizer, "vocabulary", None)
        if not hasattr(vocabulary, "tokens"):
            raise UserError(
                "--prompt_syntax compel was given; the model's tokenizer, a "
                f"{type(conditioner.tokenizer).__name__}, does not say where words end; expected "
                "CLIP's; use --prompt_syntax a1111"
            )
        self.maker, self._tokens = RowMaker(conditioner.tokenizer), vocabulary.tokens
        self._empty: Tensor | None = None

    @property
    def empty(self) -> Tensor:
        """The states (L, D) of the empty prompt."""
        if self._empty is None:
            self._empty = self.states_of([self.maker.empty])[0]
        return self._empty

    def equal(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Return states (N, D) in one length: as in compel, the empty prompt fills them up."""
        longest = max(map(len, states))
        missing = [(longest - len(each)) // self.maker.length for each in states]
        return [
            torch.cat([each, *[self.empty.to(each)] * n]) if n else each
            for each, n in zip(states, missing, strict=True)
        ]

    def _encode(self, prompt: str, negative: bool) -> tuple[EncodedPart, ...]:  # noqa: ARG002
        terms = [self._term(term) for term in parse_compel(prompt).terms]
        return (EncodedPart(1.0, (0,), (torch.cat(terms),)),)

    def _term(self, term: Term) -> Tensor:
        blended = self.equal([self._prompt(fragments) for fragments in term.prompts])
        if len(blended) > 1 or term.shares != (1.0,):
            shares = torch.tensor(term.shares)
            shares = shares / shares.sum() if term.normalize else shares
            z = (torch.stack(blended) * shares.to(blended[0])[:, None, None]).sum(0)
        else:
            (z,) = blended
        if term.weight == 1.0:
            return z
        empty = self.equal([self.empty, z])[0]
        return empty + (z - empty) * term.weight

    def _prompt(self, fragments: Sequence[Fragment]) -> Tensor:
        """Encode fragments: (N, D)."""
        rows, places = self._rows(fragments)
        mixed, shares = [self._weighted(rows, None)], [1.0]
        faded = [n for n, each in enumerate(fragments) if each.weight < 1 and places[n]]
        if len(faded) > _MOST_FADED:
            raise UserError(
                f"a prompt has {len(faded)} parts that weigh less than 1; expected at most "
                f"{_MOST_FADED}; weigh several words together, in brackets"
            )
        for number in faded:
            mixed.append(self._weighted(rows, self._mask(rows, places[number])))
            weight = max(LEAST, fragments[number].weight)
            shares.append(math.tan((1.0 - weight) * math.pi / 2))
        if len(mixed) == 1:
            return mixed[0]
        weights = torch.tensor(shares).to(mixed[0])
        return (torch.stack(mixed) * (weights / weights.sum())[:, None, None]).sum(0)

    def _weighted(self, rows: Sequence[Row], mask: Tensor | None) -> Tensor:
        """Return the states (N, D) of rows with their weights; ``mask`` is (R, L)."""
        z = self.states([row.ids for row in rows], mask)  # (R, L, D)
        weights = torch.tensor([row.weights for row in rows]).to(z)[..., None]
        if bool((weights == 1).all()):
            return z.flatten(0, 1)
        away = self.empty + (z - self.empty) * weights
        return torch.where(weights == 1, z, away).flatten(0, 1)

    def _mask(self, rows: Sequence[Row], places: Sequence[int]) -> Tensor:
        """Return who may be looked at, (R, L), where tokens at some places of N may not."""
        mask = torch.ones(len(rows) * self.maker.length, dtype=torch.bool)
        # What lies between two rows' tokens of one fragment goes too, but for first and last.
        mask[places[0] : places[-1] + 1] = False
        mask = mask.reshape(len(rows), -1)
        mask[:, [0, -1]] = True
        return mask

    def _rows(self, fragments: Sequence[Fragment]) -> tuple[list[Row], list[list[int]]]:
        """Return the rows of fragments, and the places of each fragment's tokens in them."""
        row, owners = Row(), []
        for number, (text, weight) in enumerate(fragments):
            ids = self.maker.tokenizer.encode(text)
            row.add(ids, weight)
            owners += [number] * len(ids)
        places: list[list[int]] = [[] for _ in fragments]
        rows, done = [], 0
        while True:
            rest = row.split(self._end_of_row(row.ids))
            first = len(rows) * self.maker.length + len(self.maker.start)
            for offset in range(len(row.ids)):
                places[owners[done + offset]].append(first + offset)
            done += len(row.ids)
            rows.append(self.maker.whole(row))
            if not rest.ids:
                return rows, places
            if len(rows) == PROMPT_ROWS:
                raise UserError(
                    f"a prompt of more than {PROMPT_ROWS} rows of tokens was given; expected at "
                    "most that; shorten it"
                )
            row = rest

    def _end_of_row(self, ids: Sequence[int]) -> int:
        """Return how many tokens the next row takes: up to a sentence's end, a phrase's, a word's.

        An embedding of several vectors counts as a word.
        """
        if len(ids) <= self.maker.size:
            return len(ids)
        fit, ends = 0, []
        for group in self.maker.groups(ids[: self.maker.size + 1]):
            fit += len(group)
            if fit <= self.maker.size:
                known = group[0] < len(self.maker.tokenizer)
                ends.append((fit, self._tokens[group[0]] if known else "</w>"))
        for signs in _ENDINGS:
            found = [
                end
                for end, token in ends
                if token.removesuffix("</w>") in signs and token.endswith("</w>")
            ]
            if found:
                return found[-1]
        words = [end for end, token in ends if token.endswith("</w>")]
        return words[-1] if words else self.maker.size

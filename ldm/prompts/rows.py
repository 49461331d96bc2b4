"""Rows of token ids for prompts of any length, cut as AUTOMATIC1111 cuts them. Imports no torch.

A row holds ``size`` tokens of the prompt, 75 for CLIP, between start and end. What follows a comma
among a row's last 20 tokens moves to the next row; so does an embedding of several vectors that
would be cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ldm.budgets import PROMPT_ROWS
from ldm.errors import UserError
from ldm.prompts.emphasis import BREAK, Piece

BACKTRACK = 20  # tokens


@dataclass
class Row:
    """Ids and a weight for each of them: of the prompt's own tokens, or of a whole row."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, ids: Sequence[int], weight: float) -> None:
        """Put tokens of one weight at the end."""
        self.ids += ids
        self.weights += [weight] * len(ids)

    def split(self, place: int) -> Row:
        """Cut the tokens from a place on off, and return them."""
        rest = Row(self.ids[place:], self.weights[place:])
        del self.ids[place:], self.weights[place:]
        return rest


class RowMaker:
    """Makes rows with a conditioner's tokenizer.

    Args:
        tokenizer: Encodes a text of any length; its ids are used as they are. Ids from ``len`` of
            it on are vectors of an embedding: rising ones that follow each other are one
            embedding, unless ``embedding_lengths`` (first id -> number of vectors) says otherwise.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.length = tokenizer, tokenizer.max_length
        self.start = [tokenizer.bos_token_id] if tokenizer.start_tokens else []
        self.end, self.pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        self.size = self.length - len(self.start) - 1
        self.comma = tokenizer.encode(",")[-1]

    def rows(self, pieces: Sequence[Piece]) -> list[Row]:
        """Return the whole rows of a text that was cut into pieces: one at least.

        Raises:
            UserError: There are too many.
        """
        made: list[Row] = []
        row, comma = Row(), None
        for piece in pieces:
            if piece == BREAK:
                made.append(row)
                row, comma = Row(), None
                continue
            for group in self.groups(self.tokenizer.encode(piece.text)):
                full = len(row.ids) == self.size
                if group[0] == self.comma:
                    comma = len(row.ids)
                elif full and comma is not None and self.size - comma <= BACKTRACK:
                    made.append(row)
                    row, comma = row.split(comma + 1), None
                if len(row.ids) + min(len(group), self.size) > self.size:
                    made.append(row)
                    row, comma = Row(), None
                while len(group) > self.size:  # longer than a row: cut all the same
                    made.append(Row(group[: self.size], [piece.weight] * self.size))
                    group = group[self.size :]
                row.add(group, piece.weight)
            _check_count(made)
        if row.ids or not made:
            made.append(row)
        return [self.whole(each) for each in made]

    def groups(self, ids: Sequence[int]) -> Iterator[list[int]]:
        """Yield ids one by one, those of one embedding together."""
        known, lengths = len(self.tokenizer), getattr(self.tokenizer, "embedding_lengths", {})
        place = 0
        while place < len(ids):
            end = place + lengths.get(ids[place], 1)
            if ids[place] >= known and ids[place] not in lengths:
                while end < len(ids) and ids[end] == ids[end - 1] + 1 and ids[end] not in lengths:
                    end += 1
            yield list(ids[place:end])
            place = end

    def whole(self, row: Row) -> Row:
        """Return a row with start, end and padding, of weight 1 each."""
        ids = [*self.start, *row.ids, self.end]
        if self.pad != self.end:
            # An end token that is written out ends the row, for encoders that pad with another.
            ids = ids[: ids.index(self.end) + 1]
        ids += [self.pad] * (self.length - len(ids))
        weights = [1.0] * len(self.start) + row.weights
        return Row(ids, weights + [1.0] * (self.length - len(weights)))

    @property
    def empty(self) -> Row:
        """The row of the empty text."""
        return self.whole(Row())


def _check_count(rows: Sequence[Row]) -> None:
    if len(rows) > PROMPT_ROWS:
        raise UserError(
            f"a prompt of more than {PROMPT_ROWS} rows of tokens was given; expected at most that; "
            "shorten it"
        )

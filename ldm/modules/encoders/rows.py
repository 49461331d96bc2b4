"""Read the row of ids that a text encoder gets for a prompt, and which text each id stands for.

Any tokenizer will do: our own, transformers' fast ones (which know their offsets) and slow ones
(whose pieces are decoded and looked up in the prompt). Nothing is assumed of its ids or its length.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.modules.encoders.offsets import Span, cleaned_letters

# transformers gives tokenizers without a limit a length of 1e30.
LONGEST_ROW = 1_000_000  # tokens
BROKEN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class TokenRow:
    """A row of L ids: start, the prompt's tokens, end, padding.

    Args:
        ids: L ids.
        spans: For each id the stretch (start, end) of the prompt, in characters; None for start,
            end and padding.
        start: How many start tokens the row has (T5's has none).
    """

    ids: tuple[int, ...]
    spans: tuple[Span | None, ...]
    start: int


def token_row(tokenizer: Any, text: str, length: int | None = None) -> TokenRow:
    """Return the row that a prompt becomes, cut and padded as for the text encoder.

    Args:
        tokenizer: A conditioner's: ours, or one with the interface of transformers.
        text: The prompt.
        length: L of a foreign tokenizer; None means what it says itself.

    Raises:
        UserError: A foreign tokenizer does not say L, or its pieces are not found in the prompt.
    """
    if hasattr(tokenizer, "offsets"):
        return _own(tokenizer, text)
    fast = getattr(tokenizer, "is_fast", False)
    row = tokenizer(
        text,
        truncation=True,
        padding="max_length",
        max_length=length or _length(tokenizer),
        return_special_tokens_mask=True,
        return_offsets_mapping=fast,
    )
    ids = row["input_ids"]
    marked = list(zip(ids, row["special_tokens_mask"], strict=True))
    if fast:
        found = iter(tuple(span) for span in row["offset_mapping"])
        spans = [
            None if special else span for span, (_, special) in zip(found, marked, strict=True)
        ]
    else:
        found = iter(_looked_up(tokenizer, [n for n, special in marked if not special], text))
        spans = [None if special else next(found) for _, special in marked]
    before = max(tokenizer.num_special_tokens_to_add() - 1, 0)  # all but the end token
    return TokenRow(tuple(ids), tuple(spans), before)


def _own(tokenizer: Any, text: str) -> TokenRow:
    rows = tokenizer(text)
    ids = (rows["input_ids"] if isinstance(rows, Mapping) else rows)[0].tolist()
    start = getattr(tokenizer, "start_tokens", 1)
    spans = tokenizer.offsets(text)[: len(ids) - start - 1]
    after = [None] * (len(ids) - start - len(spans))
    return TokenRow(tuple(ids), (*[None] * start, *spans, *after), start)


def _length(tokenizer: Any) -> int:
    length = tokenizer.model_max_length
    if length > LONGEST_ROW:
        raise UserError(
            f"the tokenizer {type(tokenizer).__name__} does not say how long its rows are; "
            "expected the number of tokens that the text encoder takes; set its model_max_length"
        )
    return length


def _looked_up(tokenizer: Any, ids: Sequence[int], text: str) -> list[Span]:
    """Find decoded pieces in a text one after another; unknown tokens take what lies between."""
    letters, spans = cleaned_letters(text, _folded)
    found: list[Span] = []
    done = unknown = 0
    for piece, count in _pieces(tokenizer, ids):
        if piece is None:
            unknown += count
            continue
        if piece == BROKEN:  # the row's end has cut a character: it is the next one
            piece = letters[done:].lstrip()[:1]
        here = letters.find(piece, done)
        if here < 0 or (letters[done:here].strip() and not unknown):
            raise UserError(
                f"the tokenizer's piece {quoted(piece)} is not where it should be in the prompt "
                f"{quoted(text)}; expected the prompt's own characters; use a fast tokenizer, "
                "which knows its offsets"
            )
        found += [_stretch(spans, letters, done, here)] * unknown
        found += [_stretch(spans, letters, here, here + len(piece))] * count
        done, unknown = here + len(piece), 0
    rest = len(letters[done:]) - len(letters[done:].lstrip())
    word_end = letters.find(" ", done + rest)
    end = len(letters) if word_end < 0 else word_end
    return found + [_stretch(spans, letters, done, end)] * unknown


def _stretch(spans: Sequence[Span], letters: str, begin: int, end: int) -> Span:
    """Return the stretch of the text that letters stand for, without white space around."""
    while begin < end and letters[begin] == " ":
        begin += 1
    while begin < end and letters[end - 1] == " ":
        end -= 1
    if begin < end:
        return spans[begin][0], spans[end - 1][1]
    edge = spans[begin - 1][1] if begin else 0
    return edge, edge


def _pieces(tokenizer: Any, ids: Sequence[int]) -> Iterator[tuple[str | None, int]]:
    """Yield the text of each token, or of several that are one character's bytes, and how many.

    The text of unknown tokens is None; that of bytes which the row's end cuts off is ``BROKEN``.
    """
    gathered: list[int] = []
    for token_id in ids:
        gathered.append(token_id)
        if token_id == getattr(tokenizer, "unk_token_id", None):
            yield None, len(gathered)
            gathered = []
            continue
        piece = tokenizer.decode(gathered)
        # Of bytes that are no character yet tokenizers show a mark or nothing.
        if piece and BROKEN not in piece:
            yield cleaned_letters(piece.removeprefix("##"), _folded)[0], len(gathered)
            gathered = []
    if gathered:
        yield BROKEN, len(gathered)


def _folded(text: str) -> str:
    """Reduce a text to what tokenizers tell apart: no case, no width, no accents."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in parts if unicodedata.category(c) != "Mn").casefold()

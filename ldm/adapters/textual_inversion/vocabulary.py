"""Words that are added to a text encoder's vocabulary for a while, each for n vectors.

While anything is added, the tokenizer gives n ids beyond its own for such a word, and a hook on the
table of token embeddings puts the vectors where these ids stand. The table itself, and so the
checkpoint's keys, stay as they are.

``words`` says where a word is seen in a text.

Shapes: B prompts, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ldm.adapters.textual_inversion.words import Words
from ldm.errors import UserError
from ldm.legible import quoted
from ldm.modules.encoders.offsets import Span
from ldm.wrapping import Wrapping

TABLE = "token_embedding"


@dataclass(frozen=True, eq=False)
class Entry:
    """What was added for one embedding.

    Attributes:
        words: Its trigger words.
        vectors: (n, D).
        scale: Returns what they are multiplied by.
        source: Where they are from, for messages.
        first: Its first id; the others follow.
    """

    words: Sequence[str]
    vectors: Tensor
    scale: Callable[[], float]
    source: str
    first: int

    @property
    def ids(self) -> list[int]:
        """Its n ids."""
        return list(range(self.first, self.first + len(self.vectors)))

    def has(self, ids: Any) -> Any:
        """Return which of some ids, or whether one id, is among its own."""
        return (ids >= self.first) & (ids < self.first + len(self.vectors))


def vocabulary_of(model: nn.Module) -> Vocabulary:
    """Return the words that are added to a hub's text encoder.

    Raises:
        UserError: It has no tokenizer of ours, or no table of token embeddings.
    """
    conditioner = getattr(model, "cond_stage_model", None)
    found = _KNOWN.get(conditioner) if isinstance(conditioner, nn.Module) else None
    if found is None:
        found = Vocabulary(conditioner)
        _KNOWN[conditioner] = found
    return found


class Vocabulary:
    """The words that are added to one text encoder; without any it is as it was.

    Args:
        conditioner: The text encoder with its tokenizer.

    Raises:
        UserError: See ``vocabulary_of``.
    """

    def __init__(self, conditioner: Any) -> None:
        tokenizer = getattr(conditioner, "tokenizer", None)
        tables = [m for n, m in _modules(conditioner) if n.rpartition(".")[2] == TABLE]
        if len(tables) != 1 or not all(hasattr(tokenizer, name) for name in _WRAPPED):
            raise UserError(
                f"the text encoder {type(conditioner).__name__} was given an embedding; expected "
                "one of CLIP's kind with ldm's tokenizer, such as Stable Diffusion's; use a model "
                "with such a text encoder"
            )
        self._tokenizer, self._table = tokenizer, tables[0]
        self._next = self._table.num_embeddings
        self._entries: list[Entry] = []
        self._wrapping, self._hooks = Wrapping(), []
        self._words, self._by_word = Words(()), {}
        self._ids: Tensor | None = None

    @property
    def width(self) -> int:
        """D."""
        return self._table.embedding_dim

    @property
    def room(self) -> int:
        """How many tokens a prompt may have, without start and end."""
        return self._tokenizer.max_length - 1 - getattr(self._tokenizer, "start_tokens", 1)

    def rows(self, text: str) -> Tensor:
        """Return the table's own vectors of a text's tokens (n, D), without start and end."""
        ids = self._tokenizer.encode(text)
        return self._table.weight.detach()[ids].clone()

    def add(
        self, words: Sequence[str], vectors: Tensor, scale: Callable[[], float], source: str
    ) -> Entry:
        """Add words that stand for vectors (n, D).

        Raises:
            UserError: One of the words is taken.
        """
        for word in words:
            for other in self._entries:
                if word.casefold() in map(str.casefold, other.words):
                    raise UserError(
                        f"{source} and {other.source} are both called by {quoted(word)}; expected "
                        "one embedding for each word; leave one out, or rename its file"
                    )
        entry = Entry(tuple(words), vectors, scale, source, self._next)
        self._next += len(vectors)
        if not self._entries:
            self._begin()
        self._entries.append(entry)
        self._look_for_words()
        return entry

    def drop(self, entry: Entry) -> None:
        """Forget what ``add`` added."""
        self._entries.remove(entry)
        if self._entries:
            self._look_for_words()
            return
        self._wrapping.undo()
        while self._hooks:
            self._hooks.pop().remove()
        del self._tokenizer.embedding_lengths  # which whoever cuts prompts into rows reads
        self._ids = None
        self._next = self._table.num_embeddings

    def _look_for_words(self) -> None:
        self._by_word = {word: entry for entry in self._entries for word in entry.words}
        self._words = Words(self._by_word)
        lengths = {entry.first: len(entry.vectors) for entry in self._entries}
        self._tokenizer.embedding_lengths = lengths

    def _begin(self) -> None:
        for name, stand_in in zip(_WRAPPED, (self._encode, self._offsets), strict=True):
            self._wrapping.put(self._tokenizer, name, stand_in)
        if hasattr(self._tokenizer, "decode"):
            self._wrapping.put(self._tokenizer, "decode", self._decode)
        self._hooks += [
            self._table.register_forward_pre_hook(self._before),
            self._table.register_forward_hook(self._after),
        ]

    # --- the tokenizer's side

    def _parts(self, text: str) -> Iterator[tuple[int, int, Entry | None]]:
        """Yield stretches of a text, each with the embedding that it calls."""
        done = 0
        for begin, end, number in self._words.stretches(text):
            if done < begin:
                yield done, begin, None
            yield begin, end, self._by_word[self._words.words[number]]
            done = end
        if done < len(text):
            yield done, len(text), None

    def _encode(self, own: Callable[[str], list[int]], text: str) -> list[int]:
        ids: list[int] = []
        for begin, end, entry in self._parts(text):
            ids += own(text[begin:end]) if entry is None else entry.ids
        return ids

    def _offsets(self, own: Callable[[str], list[Span]], text: str) -> list[Span]:
        spans: list[Span] = []
        for begin, end, entry in self._parts(text):
            if entry is None:
                spans += [(begin + a, begin + b) for a, b in own(text[begin:end])]
            else:
                spans += [(begin, end)] * len(entry.vectors)
        return spans

    def _decode(self, own: Callable[..., str], ids: Sequence[int], *args: Any, **kw: Any) -> str:
        """Write an embedding as its word, also where some of its ids are missing."""
        texts: list[str] = []
        plain: list[int] = []
        named: int | None = None  # the id that would continue the last word
        for number in map(int, ids):
            entry = next((each for each in self._entries if each.has(number)), None)
            if entry is None:
                plain.append(number)
            elif plain or number != named:
                texts += [own(plain, *args, **kw), entry.words[0]]
                plain = []
            named = number + 1 if entry is not None and entry.has(number + 1) else None
        return " ".join(filter(None, [*texts, own(plain, *args, **kw)]))

    # --- the table's side

    def _before(self, _table: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        (ids,) = inputs
        self._ids = None
        added = torch.zeros_like(ids, dtype=torch.bool)
        for entry in self._entries:
            added |= entry.has(ids)
        if not added.any():
            return None
        self._ids = ids
        return (ids.masked_fill(added, 0),)

    def _after(self, _table: nn.Module, _inputs: Any, out: Tensor) -> Tensor | None:
        ids, self._ids = self._ids, None
        if ids is None:
            return None
        for entry in self._entries:
            here = entry.has(ids)  # (B, L)
            rows = entry.vectors.to(out) * entry.scale()  # (n, D)
            out = out.index_put((here,), rows[ids[here] - entry.first])
        return out


_WRAPPED = ("encode", "offsets")
_KNOWN: WeakKeyDictionary[nn.Module, Vocabulary] = WeakKeyDictionary()


def _modules(conditioner: Any) -> Iterator[tuple[str, nn.Module]]:
    return conditioner.named_modules() if isinstance(conditioner, nn.Module) else iter(())

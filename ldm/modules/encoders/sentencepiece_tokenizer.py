"""Tokens of a sentencepiece vocabulary as T5 uses one: a prompt's pieces, the end token, padding.

Text passes through four stages:

    prompt => lower case, usual widths => pieces => ids

What is read is a folder (or a file in it): ``spiece.model``, which sentencepiece's own package
reads, or else ``tokenizer.json``, which transformers from release 5 writes in its place. Every id
comes from these files, those of the end token and of padding too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ldm.budgets import TOKENIZER_BYTES
from ldm.checkpoint.diffusers.json_files import (
    FAST,
    SENTENCEPIECE,
    TOKEN_NAMES,
    TOKENIZER_FILES,
    parse_json,
)
from ldm.errors import UserError
from ldm.modules.encoders.offsets import Span, sources
from ldm.modules.encoders.tokenizer import PromptTokenizer
from ldm.paths import at_home, file_size, first_file, is_file, reason, unreachable

SPECIAL = {"eos_token": "</s>", "pad_token": "<pad>"}  # with T5's own names
WIDE_TILDE = "～"


def unified(text: str) -> str:
    """Bring letters to one width and form: Unicode's NFKC, but for the full-width tilde.

    sentencepiece's default rule leaves that one alone too: in Japanese ～ is a mark of its own, for
    ranges. So text that was treated in this way is to that rule what it was before.

    Example:
        >>> unified("Ａ４のﾋﾟｱﾉ ㍻～")
        'A4のピアノ 平成～'
    """
    return WIDE_TILDE.join(unicodedata.normalize("NFKC", each) for each in text.split(WIDE_TILDE))


class Pieces(Protocol):
    """A vocabulary that was read.

    Attributes:
        size: How many pieces it has.
        own_ids: Ids of special tokens that the file itself marks as such, by T5's names.
    """

    size: int
    own_ids: Mapping[str, int]

    def cut(self, text: str) -> list[tuple[int, Span]]:
        """Return the id of each piece and the stretch of ``text`` that it stands for."""

    def id_of(self, piece: str) -> int | None:
        """Return a piece's id, or None if there is no such piece."""


class SentencePieces:
    """The vocabulary in a ``spiece.model``, read by the package sentencepiece."""

    def __init__(self, path: Path) -> None:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise UserError(
                f"{path} is read by the package sentencepiece, which is not installed; run "
                'pip install -e ".[japanese]"'
            ) from error
        self._model = SentencePieceProcessor(model_proto=path.read_bytes())
        self.size = self._model.get_piece_size()
        own = {"eos_token": self._model.eos_id(), "pad_token": self._model.pad_id()}
        self.own_ids = {name: n for name, n in own.items() if n >= 0}

    def cut(self, text: str) -> list[tuple[int, Span]]:
        found = self._model.encode(text, return_type="offset_mapping")
        return list(zip(found["ids"], map(tuple, found["offsets"]), strict=True))

    def id_of(self, piece: str) -> int | None:
        n = self._model.piece_to_id(piece)  # that of the unknown piece for what it does not have
        return n if self._model.id_to_piece(n) == piece else None


class FastPieces:
    """The vocabulary in a ``tokenizer.json``, read by the package tokenizers."""

    own_ids: Mapping[str, int] = {}

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(path))
        # The file may hold what it was last asked to do.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.size = self._tokenizer.get_vocab_size(with_added_tokens=False)

    def cut(self, text: str) -> list[tuple[int, Span]]:
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return list(zip(found.ids, found.offsets, strict=True))

    def id_of(self, piece: str) -> int | None:
        return self._tokenizer.token_to_id(piece)


class SentencePieceTokenizer(PromptTokenizer):
    """Turn prompts into the rows of transformers' T5Tokenizer: no start token, one end token.

    The files are read on first use, so that models can be built without them. A special token that
    is written out in a prompt (``</s>``) is text like any other to sentencepiece; to transformers,
    and so by its ``tokenizer.json``, it is the token, with which a prompt may end itself.

    Args:
        path: A folder with ``spiece.model`` or ``tokenizer.json``, or one of these files; None
            can be built with, and not be read with.
        max_length: Tokens per prompt L, the end token included.
        do_lower_case: Lower-case prompts first, as rinna's pipelines ask of the tokenizer.
        nfkc: Then bring letters to one form, see ``unified``. What sentencepiece makes by default
            does so by itself, and its ids do not change; other vocabularies know full-width
            letters and half-width kana by this alone.
    """

    start_tokens = 0

    def __init__(
        self,
        path: str | Path | None,
        max_length: int = 77,
        *,
        do_lower_case: bool = True,
        nfkc: bool = True,
    ) -> None:
        self.path, self.do_lower_case, self.nfkc = path, do_lower_case, nfkc
        self.max_length = self.model_max_length = max_length

    @cached_property
    def vocabulary(self) -> Pieces:
        """The vocabulary.

        Raises:
            UserError: No file is found, it cannot be read, or the package that reads it is absent.
        """
        path = self.file
        try:
            if file_size(path) > TOKENIZER_BYTES:
                raise ValueError(f"more than {TOKENIZER_BYTES} bytes")
            return (FastPieces if path.suffix.lower() == ".json" else SentencePieces)(path)
        except UserError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise UserError(
                f"{path} cannot be read ({reason(error)}); expected a sentencepiece vocabulary; "
                "copy it again"
            ) from error

    @property
    def file(self) -> Path:
        """The file that the vocabulary is in.

        Raises:
            UserError: There is none.
        """
        if self.path is None:
            found, where = None, "none was given"
        else:
            given = at_home(self.path)
            files = [given / name for name in (SENTENCEPIECE, FAST)]
            found = given if is_file(given) else first_file(files)
            where = f"{str(given)!r} {unreachable(given) or 'has neither'}"
        if found is None:
            raise UserError(
                f"the text encoder's tokenizer: {where}; expected a folder with {SENTENCEPIECE} or "
                f"{FAST}; set cond_stage_config.params.tokenizer_path to it"
            )
        return found

    @property
    def files(self) -> dict[str, Path]:
        """The files that make up the tokenizer, by the names that transformers has for them.

        Raises:
            UserError: As ``file``.
        """
        own = self.file
        near = {
            name: own.with_name(name) for name in TOKENIZER_FILES if is_file(own.with_name(name))
        }
        return near | {FAST if own.suffix.lower() == ".json" else SENTENCEPIECE: own}

    @cached_property
    def eos_token_id(self) -> int:
        """Id of the end token."""
        return self._special("eos_token")

    @cached_property
    def pad_token_id(self) -> int:
        """Id of the padding."""
        return self._special("pad_token")

    def __len__(self) -> int:
        """Return how many rows a table needs that holds every id of a row."""
        return max(self.vocabulary.size, self.eos_token_id + 1, self.pad_token_id + 1)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, whatever its length, without the end token."""
        return [n for n, _ in self.vocabulary.cut(self._clean(text))]

    def offsets(self, text: str) -> list[Span]:
        """Return for each id of ``encode(text)`` the stretch of the text that it stands for.

        Pieces of one character (㍻ is 平 and 成) share its stretch; a piece of white space alone
        has an empty one.

        Returns:
            (start, end) in characters of the text as given; neither ever goes back.
        """
        cleaned = self._clean(text)
        traced = sources(text, cleaned, self._clean)
        found = []
        for _, (begin, end) in self.vocabulary.cut(cleaned):
            while begin < end and cleaned[begin].isspace():
                begin += 1
            if begin < end:
                found.append((traced[begin][0], traced[end - 1][1]))
            else:
                edge = traced[begin][0] if begin < len(traced) else len(text)
                found.append((edge, edge))
        return found

    def truncated(self, text: str) -> str | None:
        """Return the end of a prompt that the model would not see, or None if all of it fits."""
        spans, kept = self.offsets(text), self.max_length - 1
        return text[spans[kept][0] :].strip() if len(spans) > kept else None

    def _row(self, prompt: str, limit: int | None) -> list[int]:
        ids = self.encode(prompt)
        return [*(ids if limit is None else ids[: limit - 1]), self.eos_token_id]

    def _clean(self, text: str) -> str:
        whole = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair: "?"
        lower = whole.lower() if self.do_lower_case else whole
        return unified(lower) if self.nfkc else lower

    def _special(self, kind: str) -> int:
        """Return a special token's id: by the name that JSON files give it, else the file's own."""
        named = self._named(kind)
        own = None if named else self.vocabulary.own_ids.get(kind)
        found = self.vocabulary.id_of(named or SPECIAL[kind]) if own is None else own
        if found is None:
            raise UserError(
                f"{self.file} has no piece {named or SPECIAL[kind]!r}, its {kind}; expected one of "
                f"its own; correct {kind} in {TOKEN_NAMES[0]} beside it"
            )
        return found

    def _named(self, kind: str) -> str | None:
        for name in TOKEN_NAMES:  # the first that says one is believed
            path = self.file.with_name(name)
            if not is_file(path):
                continue
            try:
                read: Any = parse_json(path)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"{path} cannot be read ({reason(error)}); expected a tokenizer's JSON; copy "
                    "it again"
                ) from error
            token = read.get(kind) if isinstance(read, dict) else None
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                return token
        return None

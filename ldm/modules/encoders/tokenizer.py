"""CLIP's byte-level BPE tokenizer, read from the vocabulary file inside the open_clip package.

Text passes through four stages:

    raw text => cleaned text => words => symbols (bytes as printable letters) => ids

An id is a row of the 49,408-row embedding table: 256 single bytes, the same 256 bytes closing a
word, 48,894 merges, then ``<|startoftext|>`` and ``<|endoftext|>``.
"""

from __future__ import annotations

import gzip
import heapq
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import regex
import torch

from ldm.errors import UserError
from ldm.modules.encoders.offsets import Span, sources
from ldm.paths import is_file

VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
N_MERGES = 48894
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"

_SPECIAL = regex.compile(r"(<\|startoftext\|>|<\|endoftext\|>)")
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# The reference compiles its pattern case-insensitively; that still matters after lower-casing:
# "'ſ" (long s) is a contraction to it.
_WORD = regex.compile(f"{_SPECIAL.pattern[1:-1]}|{WORDS}", regex.IGNORECASE)


def clean_text(text: str) -> str:
    """Repair, lower-case and space out a prompt as the reference's environment did.

    That means ftfy's default repairs (ligatures, full-width letters and punctuation, curly quotes,
    mojibake), one space for each run of white space, and lower case. OpenAI's own tokenizer also
    unescapes HTML twice; the one in transformers, which the reference uses, does not.
    """
    return regex.sub(r"\s+", " ", _repaired(text)).strip().lower()


def _repaired(text: str) -> str:
    """Return what ftfy makes of a text.

    It leaves printable ASCII as it is, unless it begins an HTML entity; most prompts are such, and
    its import takes as long as a step of a small model.
    """
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    import ftfy

    return ftfy.fix_text(text)


def _byte_letters() -> dict[int, str]:
    """Map each byte to a printable letter, in the vocabulary's order: visible Latin-1 first."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    letters = {byte: chr(byte) for byte in visible}
    return letters | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


def vocabulary_path() -> Path:
    """Find open_clip's vocabulary without importing open_clip, which would take seconds.

    Raises:
        UserError: if the package or the file is not installed.
    """
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise UserError(
            "the package open_clip is not installed; the CLIP tokenizer reads its vocabulary "
            "from there; run `pip install open_clip_torch`"
        )
    path = Path(spec.origin).parent / VOCABULARY_FILE
    if not is_file(path):
        raise UserError(
            f"no file {path}; the CLIP tokenizer reads its vocabulary from the open_clip package; "
            "run `pip install --force-reinstall open_clip_torch`"
        )
    return path


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The BPE tables: the rank of each merge ``"left right"`` and the id of each token."""

    ranks: dict[str, int]
    ids: dict[str, int]

    @classmethod
    def from_file(cls, path: Path) -> Vocabulary:
        """Read a gzipped merges file: one comment line, then a merge per line, best first.

        Raises:
            UserError: if the file cannot be read or holds too few merges.
        """
        try:
            lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise UserError(
                f"cannot read {path} ({error}); a gzipped list of BPE merges is expected; "
                "reinstall open_clip_torch"
            ) from error
        merges = lines[1 : N_MERGES + 1]
        letters = list(_byte_letters().values())
        tokens = [*letters, *(letter + WORD_END for letter in letters)]
        tokens += "\n".join(merges).replace(" ", "").split("\n")
        ids = {token: n for n, token in enumerate([*tokens, START, END])}
        if len(ids) != 2 * 256 + N_MERGES + 2:
            raise UserError(
                f"{path} makes {len(ids)} tokens; CLIP's vocabulary has "
                f"{2 * 256 + N_MERGES + 2}; reinstall open_clip_torch"
            )
        return cls(ranks={merge: rank for rank, merge in enumerate(merges)}, ids=ids)

    @cached_property
    def tokens(self) -> list[str]:
        """Every token, at the index that is its id."""
        return list(self.ids)

    def merge(self, symbols: Sequence[str]) -> list[str]:
        """Join neighbouring symbols of one word, always the best-ranked pair first.

        A heap of candidate pairs keeps a long text without spaces (a page of Japanese is one
        "word") at n log n; rescanning the word after each merge is quadratic. Both give the same
        tokens: each token is made by exactly one merge, so the pairs that a merge creates rank
        below it.
        """
        parts: list[str | None] = list(symbols)
        after = [*range(1, len(parts)), -1]
        before = [-1, *range(len(parts) - 1)]
        heap: list[tuple[int, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right >= 0:
                pair = f"{parts[left]} {parts[right]}"
                rank = self.ranks.get(pair)
                if rank is not None:
                    heapq.heappush(heap, (rank, left, right, pair))

        for left in range(len(parts) - 1):
            offer(left, left + 1)
        while heap:
            _, left, right, pair = heapq.heappop(heap)
            if after[left] != right or f"{parts[left]} {parts[right]}" != pair:
                continue  # one of the two has since been joined to something else
            parts[left], parts[right] = pair.replace(" ", ""), None
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            after[right] = -1
            offer(before[left], left)
            offer(left, after[left])
        return [part for part in parts if part is not None]


@lru_cache(maxsize=4)
def load_vocabulary(path: Path | None = None) -> Vocabulary:
    """Read the vocabulary once per process (``None``: open_clip's)."""
    return Vocabulary.from_file(path or vocabulary_path())


class PromptTokenizer:
    """Rows of ids for a batch of prompts, asked for as CompVis asks transformers' tokenizers.

    Attributes:
        max_length: tokens per prompt L, including the start and end tokens.
        start_tokens: how many tokens stand before a prompt's own; one stands behind them.
        pad_token_id: what rows are filled up with.
    """

    max_length: int
    start_tokens = 1
    pad_token_id: int

    def __call__(
        self,
        text: str | Sequence[str],
        truncation: bool = True,
        max_length: int | None = None,
        return_length: bool = False,
        return_overflowing_tokens: bool = False,
        padding: str | bool = "max_length",
        return_tensors: str | None = "pt",
    ) -> dict[str, torch.Tensor | list]:
        """Encode a batch of prompts, each as one row: start and end tokens, ids, padding.

        Args:
            text: one prompt (a batch of one) or several.
            truncation: cut prompts to ``max_length``, keeping the end token.
            max_length: row length L; None means the tokenizer's own.
            return_length: add ``"length"``, L for each row, as transformers does.
            return_overflowing_tokens: kept for CompVis's call, which passes False.
            padding: ``"max_length"`` (or True: the longest row) or False.
            return_tensors: ``"pt"`` for a LongTensor, None for lists.

        Returns:
            ``{"input_ids": (B, L)}``, ids on the CPU.

        Raises:
            ValueError: the combination of options is not supported.
        """
        if return_overflowing_tokens:
            raise ValueError("return_overflowing_tokens=True is not supported; see truncated()")
        limit = max_length or self.max_length
        prompts = [text] if isinstance(text, str) else list(text)
        rows = [self._row(prompt, limit if truncation else None) for prompt in prompts]
        if padding:
            longest = max((len(row) for row in rows), default=0)
            width = max(limit, longest) if padding == "max_length" else longest
            rows = [row + [self.pad_token_id] * (width - len(row)) for row in rows]
        batch: dict[str, torch.Tensor | list] = {"input_ids": rows}
        if return_length:
            batch["length"] = [len(row) for row in rows]
        if return_tensors == "pt":
            return {name: torch.tensor(value, dtype=torch.long) for name, value in batch.items()}
        return batch

    def _row(self, prompt: str, limit: int | None) -> list[int]:
        """Return a prompt's row without padding, cut to ``limit`` tokens with the end token."""
        raise NotImplementedError(f"{type(self).__name__} must define _row")


class CLIPTokenizer(PromptTokenizer):
    """Turn prompts into token ids as the tokenizer of openai/clip-vit-large-patch14 does.

    Args:
        max_length: tokens per prompt, including the start and end tokens.

    Example:
        >>> CLIPTokenizer().encode("a photograph of an astronaut")
        [320, 8853, 539, 550, 18376]
    """

    _word = _WORD
    _clean = staticmethod(clean_text)

    def __init__(self, max_length: int = 77) -> None:
        self.max_length = self.model_max_length = max_length
        self.vocabulary = load_vocabulary()
        self.bos_token, self.eos_token, self.pad_token = START, END, END
        self.bos_token_id = self.vocabulary.ids[START]
        self.eos_token_id = self.pad_token_id = self.vocabulary.ids[END]
        self._letters = _byte_letters()
        self._bytes = {letter: byte for byte, letter in self._letters.items()}

    def __len__(self) -> int:
        return len(self.vocabulary.ids)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, whatever its length, without start and end tokens.

        A literal ``<|endoftext|>`` or ``<|startoftext|>`` is that special token, as in the
        reference's tokenizer; the text before it and after it is cleaned separately.
        """
        words = (w for _, part in self._parts(text) for w in self._word.findall(self._clean(part)))
        return [token_id for word in words for token_id, _ in self._cut(word)]

    def offsets(self, text: str) -> list[Span]:
        """Return for each id of ``encode(text)`` the stretch of the text that it stands for.

        The tokens of one character (a kanji cut into bytes) share its stretch. Exact but where
        cleaning changes more than single letters: see ``ldm.modules.encoders.offsets.sources``.

        Returns:
            (start, end) in characters of the text as given; neither ever goes back.

        Example:
            >>> CLIPTokenizer().offsets("a  Persian ｃat")
            [(0, 1), (3, 10), (11, 14)]
        """
        found: list[Span] = []
        for begin, part in self._parts(text):
            cleaned = self._clean(part)
            spans = sources(part, cleaned, self._clean)
            for match in self._word.finditer(cleaned):
                # (bytes,): the place in `cleaned` of the character that each byte is of
                places = [n for n in range(*match.span()) for _ in cleaned[n].encode()]
                done = 0
                for _, length in self._cut(match[0]):
                    first, last = places[done], places[done + length - 1]
                    found.append((begin + spans[first][0], begin + spans[last][1]))
                    done += length
        return found

    def _parts(self, text: str) -> Iterator[tuple[int, str]]:
        """Yield the parts of a text that are cleaned separately, each with where it begins."""
        begin = 0
        for part in _SPECIAL.split(text):
            yield begin, part
            begin += len(part)

    def _cut(self, word: str) -> list[tuple[int, int]]:
        """Cut a cleaned word into tokens: the id of each and how many of its bytes it holds."""
        raw = word.encode("utf-8")
        if word in self._specials:
            return [(self._specials[word], len(raw))]
        symbols = [self._letters[byte] for byte in raw]
        symbols[-1] += WORD_END
        tokens = self.vocabulary.merge(symbols)
        ids = self.vocabulary.ids
        *before, last = [(ids[token], len(token)) for token in tokens]
        return [*before, (last[0], last[1] - len(WORD_END))]

    @property
    def _specials(self) -> dict[str, int]:
        return {self.bos_token: self.bos_token_id, self.eos_token: self.eos_token_id}

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Return the text of ids: lower case, with a space after each word.

        Bytes that do not form a complete UTF-8 character become U+FFFD.
        """
        special = {self.bos_token_id, self.eos_token_id}
        raw = bytearray()
        for token_id in map(int, ids):
            token = self.vocabulary.tokens[token_id]
            if token_id in special:
                raw += b"" if skip_special_tokens else f"{token} ".encode()
                continue
            raw += bytes(self._bytes[letter] for letter in token.removesuffix(WORD_END))
            raw += b" " if token.endswith(WORD_END) else b""
        return raw.decode("utf-8", errors="replace").strip()

    def truncated(self, text: str) -> str | None:
        """Return the end of a prompt that the model would not see, or None if all of it fits."""
        ids, kept = self.encode(text), self.max_length - 2
        if len(ids) <= kept:
            return None
        # A cut between the bytes of one character loses the whole character.
        while kept > 0 and self.decode(ids[kept:]).startswith("\N{REPLACEMENT CHARACTER}"):
            kept -= 1
        return self.decode(ids[kept:])

    def _row(self, prompt: str, limit: int | None) -> list[int]:
        ids = self.encode(prompt)
        return [self.bos_token_id, *(ids if limit is None else ids[: limit - 2]), self.eos_token_id]

"""Conditioners with our own transformer: over captions as BERT tokens, or over any tokens.

Shapes: B batch, L tokens (77 for captions), D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.checkpoint.download.hub_cache import snapshots
from ldm.errors import UserError
from ldm.modules.encoders.base import AbstractEncoder, as_batch, place
from ldm.modules.encoders.offsets import Span
from ldm.modules.x_transformer import Encoder, TransformerWrapper
from ldm.paths import at_home, is_file, unreachable

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
REPOSITORIES = ("google-bert/bert-base-uncased", "bert-base-uncased")


class TransformerEmbedder(AbstractEncoder):
    """Encode token numbers as the states of a transformer.

    Args:
        n_embed: D.
        n_layer: Pairs of attention and feed-forward.
        vocab_size: V.
        max_seq_len: Maximum number of tokens L in a row.
        device: Where to put the weights; None leaves that to the caller.
    """

    def __init__(
        self,
        n_embed: int,
        n_layer: int,
        vocab_size: int,
        max_seq_len: int = 77,
        device: str | torch.device | None = None,
    ):
        super().__init__()
        self.transformer = TransformerWrapper(
            num_tokens=vocab_size,
            max_seq_len=max_seq_len,
            attn_layers=Encoder(dim=n_embed, depth=n_layer),
        )
        # Nothing uses them, and DDP waits for a gradient of every trainable weight.
        self.transformer.to_logits.requires_grad_(False)
        place(self, device)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the states (B, L, D) of tokens (B, L)."""
        weight = self.transformer.token_emb.weight
        return self.transformer(tokens.to(weight.device), return_embeddings=True)

    def encode(self, x: Tensor) -> Tensor:
        """Encode tokens; see ``forward``."""
        return self(x)


class BERTTokenizer(AbstractEncoder):
    """Turn captions into rows of ``bert-base-uncased`` tokens: [CLS] words [SEP] and padding (0).

    The vocabulary is read on first use, so that models can be built without it, from a folder or
    from the hub's local cache; nothing is downloaded.

    Args:
        device: Where rows go; None leaves them on the CPU.
        vq_interface: Let ``encode`` return what a VQ first stage does, as in CompVis.
        max_length: L, start and end included.
        tokenizer_path: Folder with ``tokenizer.json`` or ``vocab.txt``, or such a file; None
            looks in the hub's local cache.
    """

    def __init__(
        self,
        device: str | torch.device | None = None,
        vq_interface: bool = True,
        max_length: int = 77,
        tokenizer_path: str | Path | None = None,
    ):
        super().__init__()
        self.device, self.vq_interface, self.max_length = device, vq_interface, max_length
        self.tokenizer_path = tokenizer_path

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the ``tokenizers`` library.

        Raises:
            UserError: No vocabulary is found, or it cannot be read.
        """
        path = _find_tokenizer(self.tokenizer_path)
        try:
            tokenizer = _read_tokenizer(path)
        except Exception as error:  # the library raises bare Exception
            raise UserError(
                f"{path} cannot be read ({error}); expected the tokenizer of bert-base-uncased; "
                "copy it again"
            ) from error
        tokenizer.enable_truncation(self.max_length)
        tokenizer.enable_padding(length=self.max_length)
        return tokenizer

    def forward(self, text: str | Sequence[str]) -> Tensor:
        """Return the tokens (B, L) of captions, truncated to L with the end token kept."""
        rows = self.tokenizer.encode_batch(as_batch(text))
        return torch.tensor([row.ids for row in rows], dtype=torch.long, device=self.device)

    def encode(self, text: str | Sequence[str]) -> Any:
        """Return the tokens, or with ``vq_interface`` (None, None, [None, None, tokens])."""
        tokens = self(text)
        return (None, None, [None, None, tokens]) if self.vq_interface else tokens

    def decode(self, text: Any) -> Any:
        """Return the argument: the counterpart of a first stage's ``decode``."""
        return text

    def offsets(self, text: str) -> list[Span]:
        """Return for each token of a caption the stretch (start, end) of the text it stands for.

        They are the tokens that the row keeps, without start, end and padding; the stretches are
        the ``tokenizers`` library's own, and exact.
        """
        row = self.tokenizer.encode(text)
        spans = zip(row.offsets, row.special_tokens_mask, strict=True)
        return [span for span, special in spans if not special]

    def truncated(self, text: str) -> str | None:
        """Return the end of a caption that the model would not see, or None if all of it fits."""
        if not self.tokenizer.encode(text).overflowing:
            return None
        kept = max((end for _, end in self.offsets(text)), default=0)
        return text[kept:].strip()


class BERTEmbedder(TransformerEmbedder):
    """Encode captions, or token numbers, with a transformer trained together with the model.

    Args:
        n_embed: D.
        n_layer: Pairs of attention and feed-forward.
        vocab_size: V; BERT's by default.
        max_seq_len: L.
        device: Where to put the weights; None leaves that to the caller.
        use_tokenizer: Take captions; if false, token numbers (B, L), such as a layout's.
        embedding_dropout: Dropout probability of the embeddings in training.
        tokenizer_path: See ``BERTTokenizer``.
    """

    def __init__(
        self,
        n_embed: int,
        n_layer: int,
        vocab_size: int = 30522,
        max_seq_len: int = 77,
        device: str | torch.device | None = None,
        use_tokenizer: bool = True,
        embedding_dropout: float = 0.0,
        tokenizer_path: str | Path | None = None,
    ):
        super().__init__(n_embed, n_layer, vocab_size, max_seq_len, device)
        self.transformer.emb_dropout.p = embedding_dropout
        self.use_tknz_fn = use_tokenizer
        if use_tokenizer:
            self.tokenizer = BERTTokenizer(
                vq_interface=False, max_length=max_seq_len, tokenizer_path=tokenizer_path
            )

    def forward(self, text: str | Sequence[str] | Tensor) -> Tensor:
        """Encode captions, or with ``use_tokenizer: false`` tokens (B, L): (B, L, D).

        Raises:
            UserError: No tokenizer is found, or its vocabulary is larger than the model's.
        """
        return super().forward(self._tokens(text) if self.use_tknz_fn else text)

    def encode(self, text: str | Sequence[str] | Tensor) -> Tensor:
        """Encode captions or tokens; see ``forward``."""
        return self(text)

    def _tokens(self, text: str | Sequence[str]) -> Tensor:
        tokens, known = self.tokenizer(text), self.transformer.num_tokens
        if tokens.max() >= known:
            raise UserError(
                f"the tokenizer gave token {tokens.max().item()}; the model knows {known}; "
                "give tokenizer_path the vocabulary that the model was trained with"
            )
        return tokens


def _find_tokenizer(given: str | Path | None) -> Path:
    if given is None:
        found = next(_files(f for name in REPOSITORIES for f in snapshots(name)), None)
        where = "none was given and the hub's local cache has none"
    else:
        given = at_home(given)
        found = given if is_file(given) else next(_files([given]), None)
        where = f"{str(given)!r} {unreachable(given) or 'has none'}"
    if found is None:
        raise UserError(
            f"the tokenizer of bert-base-uncased: {where}; expected a folder with "
            f"{' or '.join(TOKENIZER_FILES)}; set cond_stage_config.params.tokenizer_path to it"
        )
    return found


def _files(folders: Any) -> Iterator[Path]:
    for folder in folders:
        yield from (folder / name for name in TOKENIZER_FILES if is_file(folder / name))


def _read_tokenizer(path: Path) -> Any:
    from tokenizers import BertWordPieceTokenizer, Tokenizer

    if path.suffix.lower() == ".json":
        return Tokenizer.from_file(str(path))
    return BertWordPieceTokenizer(str(path), lowercase=True)

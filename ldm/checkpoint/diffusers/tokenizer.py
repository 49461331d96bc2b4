"""Write a diffusers folder's tokenizer, readable by transformers' tokenizers of any release."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES_HEADER = "#version: 0.2"  # readers skip the first line


class Tokenizer(Protocol):
    """What is needed of a text encoder's tokenizer, unless it has ``files`` of its own.

    ``vocabulary`` has the rank of each merge ``"left right"`` and the id of each token.
    """

    vocabulary: Any
    max_length: int
    pad_token: str


def tokenizer_files(tokenizer: Any) -> dict[str, bytes]:
    """Return the files by name: those that a tokenizer was read from, or CLIP's, made anew."""
    if own := own_files(tokenizer):
        return {name: path.read_bytes() for name, path in own.items()}
    return {name: text.encode() for name, text in _clip_files(tokenizer).items()}


def own_files(tokenizer: Any) -> Mapping[str, Path]:
    """Return the files that a tokenizer was read from, by name; none for CLIP's.

    Raises:
        UserError: It is read from files, and there are none.
    """
    return getattr(tokenizer, "files", {})


def _clip_files(tokenizer: Tokenizer) -> dict[str, str]:
    """Return the files of CLIP's vocabulary by name.

    transformers then gives the same tokens, with two exceptions: it cleans prompts differently,
    and where rows are padded with ``!`` (Stable Diffusion 2) it takes exclamation marks for
    padding, as it does with the published folders.

    Args:
        tokenizer: Of CLIP's byte-level BPE; its padding is the end token or ``!`` (id 0).
    """
    padding = END if tokenizer.pad_token != "!" else "!"
    special = {
        "bos_token": _added(START),
        "eos_token": _added(END),
        "pad_token": padding,
        "unk_token": _added(END),
    }
    config = {
        "add_prefix_space": False,
        "bos_token": START,
        "do_lower_case": True,
        "eos_token": END,
        "errors": "replace",
        "model_max_length": tokenizer.max_length,
        "pad_token": padding,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": END,
    }
    ranks = tokenizer.vocabulary.ranks
    merges = sorted(ranks, key=ranks.__getitem__)
    return {
        "vocab.json": json.dumps(dict(tokenizer.vocabulary.ids), ensure_ascii=False),
        "merges.txt": "\n".join([MERGES_HEADER, *merges, ""]),
        "special_tokens_map.json": as_json(special),
        "tokenizer_config.json": as_json(config),
    }


def _added(content: str) -> dict[str, Any]:
    return {
        "content": content,
        "lstrip": False,
        "normalized": True,
        "rstrip": False,
        "single_word": False,
    }


def as_json(content: Mapping[str, Any]) -> str:
    """Format a mapping as JSON, laid out as diffusers lays out its own files."""
    return json.dumps(content, indent=2, sort_keys=True) + "\n"

"""How many tokens a prompt has, as its text encoder reads it. Imports no torch."""

from __future__ import annotations

from typing import Any

from ldm.errors import UserError
from ldm.prompts.a1111 import parse_a1111
from ldm.prompts.emphasis import BREAK, pieces
from ldm.settings.tags import split_tags

ROW = 75  # tokens between start and end, where the tokenizer does not say


def count_tokens(tokenizer: Any, prompt: str, syntax: str) -> tuple[int, int] | None:
    """Return a prompt's tokens, and how many fit into the rows that they take.

    Args:
        tokenizer: The text encoder's.
        prompt: As it is typed.
        syntax: How it is read.

    Returns:
        None if the tokenizer does not count, or the prompt is not finished.
    """
    if not hasattr(tokenizer, "encode"):
        return None
    size = getattr(tokenizer, "max_length", ROW + 2) - 2
    try:
        texts = _texts(prompt, syntax)
    except UserError:
        return None
    used = max(sum(len(tokenizer.encode(text)) for text in part) for part in texts)
    return used, size * max(1, -(-used // size))


def _texts(prompt: str, syntax: str) -> list[list[str]]:
    """Return the texts that are encoded, for each part that is drawn by itself."""
    if syntax != "a1111":
        return [[split_tags(prompt)[0]]]
    parts = parse_a1111(prompt, 1).parts
    return [
        [piece.text for piece in pieces(part.schedule[0][1]) if piece != BREAK] for part in parts
    ]

"""CLIP's tokenizer as open_clip and OpenAI's own package have it: rows padded with 0."""

from __future__ import annotations

import html
from collections.abc import Iterator

import ftfy
import regex

from ldm.modules.encoders.tokenizer import WORDS, CLIPTokenizer

START, END = "<start_of_text>", "<end_of_text>"


def clean_text(text: str) -> str:
    """Repair, unescape twice, lower-case and space out a prompt."""
    plain = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(plain.split()).lower()


class OpenCLIPTokenizer(CLIPTokenizer):
    """Turn prompts into the token ids of ``open_clip.tokenize``.

    It differs from the tokenizer of Stable Diffusion 1 in three ways: the padding, the unescaping
    of HTML, and the spelling of the start and end tokens in a prompt (one that is found after
    cleaning).

    Args:
        max_length: tokens per prompt, including the start and end tokens.
    """

    _word = regex.compile(f"{START}|{END}|{WORDS}", regex.IGNORECASE)
    _clean = staticmethod(clean_text)

    def __init__(self, max_length: int = 77) -> None:
        super().__init__(max_length)
        self.bos_token, self.eos_token, self.pad_token = START, END, "!"
        self.pad_token_id = 0

    def _parts(self, text: str) -> Iterator[tuple[int, str]]:
        yield 0, text

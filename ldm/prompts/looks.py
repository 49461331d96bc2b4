r"""Tell what in a plain prompt was probably meant as grammar. Imports no torch.

The rule: only what people do not write otherwise. A word in brackets, a clock, a ratio, "C++", a
dash or a line in capitals is ordinary text; ``(cat:1.3)``, ``((cat))``, ``[a|b]``, ``\(``,
``<lora:x:1>`` and ``cat++`` are not, nor are AND and BREAK among words in small letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)"
_SMALL = r"[^\W\d_]*[a-z][\w'-]*[,.]?"  # a word that is not all capitals
_A1111 = re.compile(
    rf"<\w+:[^<>\s][^<>]*>"
    rf"|\([^()\[\]:]*[^()\[\]:\d\s]:{_NUMBER}\)"
    rf"|\[[^()\[\]:|]*(?::[^()\[\]:|]*)?(?<![\d\s]):\s*{_NUMBER}\s*\]"
    r"|\[[^()\[\]:|]+\|[^()\[\]:]*\]"
    r"|\(\([^()\[\]]+\)+\)|\[\[[^()\[\]]+\]+\]"
    r"|\\[()\[\]]"
    rf"|(?<=[a-z,.]\s)(?:AND|BREAK)(?=\s+{_SMALL})"
)
_COMPEL = re.compile(
    r"(?<!\w)[^\W\d_]{2,}(?:\+{2,}|-{2,})(?=[\s,.]|$)"
    rf"|[)\"](?:\+{{2,}}|-{{2,}}|{_NUMBER.replace('[+-]?', '')})(?=[\s,.]|$)"
    r"|[)\"]\s?\.(?:blend|and|add|swap)\("
    r"|(?<!\w)(?:use|with)Lora\s*\([^()]*\)"
)
_BROKEN_TAG = re.compile(r"<(?:lora|lyco):(?![^<>]+>)[^<>\s]*", re.IGNORECASE)
_BROKEN_CALL = re.compile(
    rf"(?<!\w)(?:use|with)Lora\s*\((?!\s*[\w-]+\s*(?:,\s*{_NUMBER}\s*)?\))[^()]*\)?"
)


def a1111_parts(prompt: str) -> Iterator[str]:
    """Yield the parts of a prompt that AUTOMATIC1111 would read as more than text."""
    yield from dict.fromkeys(match[0] for match in _A1111.finditer(prompt))


def compel_parts(prompt: str) -> Iterator[str]:
    """Yield the parts of a prompt that compel would read as more than text."""
    yield from dict.fromkeys(match[0] for match in _COMPEL.finditer(prompt))


def broken_names(prompt: str, syntax: str) -> Iterator[str]:
    """Yield the parts of a prompt that begin as the name of a LoRA and are none."""
    yield from dict.fromkeys(match[0] for match in _BROKEN_TAG.finditer(prompt))
    if syntax == "compel":
        yield from dict.fromkeys(match[0] for match in _BROKEN_CALL.finditer(prompt))


def may_be_a1111(prompt: str) -> bool:
    """Return whether AUTOMATIC1111 might encode a prompt in another way than as plain text.

    A prompt of its own pictures is read more widely than a stranger's: single brackets weigh there,
    and what is longer than a row of tokens, each of a letter at least, is not cut.
    """
    return bool(re.search(r"[()\[\]\\]|<\w+:|\bAND\b|\bBREAK\b", prompt)) or len(prompt) > 75

"""Prompts that are mixtures: ``tabby cat:0.25 white duck:0.75 hybrid``.

A weight is a number directly after a word and a colon; white space, a comma, a semicolon or the
end follows it. It applies to the text since the previous weight; a last text without one weighs 1.
Each text is encoded on its own, and the encodings are summed in proportion to the weights.

A colon without a number is text ("a sign: hello"), and so is a whole number after a digit: clocks
and ratios (12:30, 16:9). A text that ends in a digit takes a weight with a point (route 66:2.0).
``doubtful`` lists what looks like a weight and is none. Imports no torch.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right

from ldm.errors import UserError

Mixture = list[tuple[str, float]]
"""Texts and their shares, which sum to 1."""

# Japanese keyboards type full-width signs. A comma before a digit is a decimal comma.
_COLON, _GAP = r"[:：]", r"\s,;、，；"
_END = r"(?:\s|[,;、，；](?!\d)|$)"
_WEIGHT = re.compile(rf"(?<=[^{_GAP}]){_COLON}(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)){_END}")
_CLOCK = re.compile(rf"\d{_COLON}\d+{_END}")
_ALIKE = re.compile(rf"{_COLON}\s?[+-]?\.?\d")


def weighted_texts(prompt: str) -> list[tuple[str, float]]:
    """Split a prompt at its weights.

    Example:
        >>> weighted_texts("tabby cat:0.25 white duck:0.75 hybrid")
        [('tabby cat', 0.25), ('white duck', 0.75), ('hybrid', 1.0)]
        >>> weighted_texts("a sign: open from 12:30")
        [('a sign: open from 12:30', 1.0)]
    """
    found = _weights(prompt)
    if not found:
        return [(prompt, 1.0)]
    starts = [0, *(match.end() for match in found)]
    texts = [prompt[start : m.start()].strip() for start, m in zip(starts, found, strict=False)]
    weighted = [(text, float(m["number"])) for text, m in zip(texts, found, strict=True)]
    rest = prompt[starts[-1] :].strip()
    return [*weighted, (rest, 1.0)] if rest else weighted


def mixture_of(prompt: str) -> Mixture:
    """Return a prompt's texts with their shares; those with weight 0 are left out.

    Raises:
        UserError: a weight below 0, or weights that sum to 0 or to infinity.

    Example:
        >>> mixture_of("tabby cat:1 white duck:3")
        [('tabby cat', 0.25), ('white duck', 0.75)]
    """
    weighted = weighted_texts(prompt)
    for text, weight in weighted:
        if weight < 0:
            raise UserError(
                f"the weight {weight:g} of {text!r} in a prompt was given; expected 0 or more; put "
                "what the pictures should not show into --negative_prompt"
            )
    total = sum(weight for _, weight in weighted)
    if not 0 < total < math.inf:
        raise UserError(
            f"the weights of the prompt {prompt!r} sum to {total:g}; expected a positive number; "
            "give one of them a weight above 0, such as cat:0.5"
        )
    return [(text, weight / total) for text, weight in weighted if weight > 0]


def doubtful(prompt: str) -> list[str]:
    """Return the parts of a prompt that look like a weight but are read as text.

    Example:
        >>> doubtful("a clock at 12:30, a cat: 0.5 and a duck:0.75")
        ['12:30,', 'cat: 0.5']
    """
    weights = {match.start() for match in _weights(prompt)}
    words = list(re.finditer(r"\S+", prompt))
    ends = [word.end() for word in words]
    found = []
    for match in _ALIKE.finditer(prompt):
        if match.start() not in weights:
            first, last = (bisect_right(ends, at) for at in (match.start(), match.end() - 1))
            found.append(prompt[words[first].start() : words[last].end()])
    return list(dict.fromkeys(found))


def _weights(prompt: str) -> list[re.Match]:
    """Find the weights; each match begins at its colon."""
    found = _WEIGHT.finditer(prompt)
    return [match for match in found if not _CLOCK.match(prompt, max(match.start() - 1, 0))]

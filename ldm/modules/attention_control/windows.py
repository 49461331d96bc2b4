"""During which steps an edit holds: windows of a walk, for all words or for single ones.

Shapes: T steps, L tokens of a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.attention_control.words import TokenizedPrompt
from ldm.settings.edit_words import DEFAULT, Window

Windows = Window | Mapping[str, Window]
"""One for all words, or by word; ``default_`` is that of the others.

A window is a share of the steps, [0, x), or a pair, [start, end).
"""


def bounds(window: Window, name: str) -> tuple[float, float]:
    """Return where a window begins and ends, as shares of the steps.

    Raises:
        UserError: It is no share or pair of shares.
    """
    shares = (0.0, window) if isinstance(window, Real) else window
    is_pair = isinstance(shares, Sequence) and [isinstance(x, Real) for x in shares] == [True] * 2
    if not is_pair or not 0.0 <= shares[0] <= shares[1] <= 1.0:
        raise UserError(
            f"{name} {window!r} was given; expected a share of the steps from 0 to 1, or a pair of "
            "them that does not fall; change it"
        )
    return float(shares[0]), float(shares[1])


def is_within(window: Window, number: int, total: int, name: str) -> bool:
    """Return whether a step lies in a window, which takes int(x T) steps as published."""
    start, end = bounds(window, name)
    return int(total * start) <= number < int(total * end)


def token_windows(windows: Windows, prompt: TokenizedPrompt, total: int, name: str) -> Tensor:
    """Return for each step and token whether the edit holds, 1 or 0: (T + 1, L).

    As published, there is a row more than steps, and a bound x lies at row int(x (T + 1)).

    Args:
        windows: For all words, or by word of the prompt.
        prompt: The edited prompt.
        total: T.
        name: What the windows are called in errors.

    Raises:
        UserError: A window is none, or a word is not in the prompt.
    """
    by_word = dict(windows) if isinstance(windows, Mapping) else {DEFAULT: windows}
    table = torch.zeros(total + 1, prompt.length)
    _fill(table, bounds(by_word.pop(DEFAULT, 1.0), name), slice(None))
    for word, window in by_word.items():
        _fill(table, bounds(window, f"{name} of {word!r}"), list(prompt.positions(word)))
    return table


def _fill(table: Tensor, window: tuple[float, float], tokens: slice | list[int]) -> None:
    start, end = (int(share * len(table)) for share in window)
    table[:, tokens] = 0.0
    table[start:end, tokens] = 1.0

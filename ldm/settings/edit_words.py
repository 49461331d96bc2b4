"""Edits as they are typed: weights of words, windows of steps, words to blend. Imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from ldm.errors import UserError

T = TypeVar("T")
Window = float | tuple[float, float]
DEFAULT = "default_"
"""The window of words that have none of their own."""


def read_weights(text: str | None) -> dict[str, float]:
    """Read ``snowy=2,house=-1``; None is no weights.

    Raises:
        UserError: A part is not of this form, its weight is no finite number, or its word was
            there before.
    """
    weights = {}
    for part in [] if text is None else _parts(text) or [text]:
        word, equals, number = part.rpartition("=")
        value = _number(number)
        if not equals or not word.strip() or value is None:
            raise UserError(
                f"--reweight {text!r} was given; expected words with numbers, as "
                f'"snowy=2,house=-1"; correct {part!r}'
            )
        _put_once(weights, word, value, f"--reweight {text}")
    return weights


def weights_text(weights: Mapping[str, float], between: str = ",") -> str:
    """Write what ``read_weights`` reads, to the bit.

    Example:
        >>> weights_text({"snowy": 2.0, "house": -0.123456789})
        'snowy=2,house=-0.123456789'
    """
    return between.join(f"{k}={repr(float(v)).removesuffix('.0')}" for k, v in weights.items())


def read_windows(text: str) -> Window | dict[str, Window]:
    """Read ``0.8``, ``0.2:0.8`` or ``0.8,house=0.4``; the last as a dict with ``default_``.

    Two numbers, ``0.2,0.8``, are a window too.

    Raises:
        UserError: A part is no window, or a word has two.
    """
    parts, flag = _parts(text), "--cross_replace_steps"
    by_word = {}
    plain = [part for part in parts if "=" not in part]
    for part in parts:
        word, equals, window = part.rpartition("=")
        if equals:
            _put_once(by_word, word, read_window(window, flag), f"{flag} {text}")
    if len(plain) > 1:
        plain = [":".join(plain)]
    default = read_window(plain[0], flag) if plain else None
    if not by_word and default is not None:
        return default
    if not parts:
        read_window(text, flag)  # raises
    return by_word if default is None else {DEFAULT: default, **by_word}


def read_window(text: str, flag: str) -> Window:
    """Read ``0.8`` or ``0.2:0.8``.

    Raises:
        UserError: It is neither, or no share of the steps.
    """
    numbers = [_number(part) for part in re.split("[:,]", text)]
    known = [number for number in numbers if number is not None]
    falling = known != sorted(known)
    if len(known) != len(numbers) or len(known) > 2 or falling or not _are_shares(known):
        raise UserError(
            f"{flag} {text} was given; expected a share of the steps from 0 to 1, or start:end; "
            "change it"
        )
    return known[0] if len(known) == 1 else (known[0], known[1])


def read_blend(text: str | None, targets: int) -> list[list[str]]:
    """Read ``cake|cake``: the words of the source, then those of each target, as lists.

    One part after the bar holds for all targets.

    Args:
        text: What was typed; None is no blending.
        targets: How many there are.

    Raises:
        UserError: It has another number of parts, or an empty one.
    """
    if text is None:
        return []
    parts = [_parts(part) for part in text.split("|")]
    if len(parts) == 2:
        parts += [parts[1]] * (targets - 1)
    if len(parts) != targets + 1 or not all(parts):
        raise UserError(
            f"--blend {text!r} was given; expected words of the source, a bar, and words of each "
            f'of {targets} edited prompts, as "cat|dog"; change it'
        )
    return parts


def window_text(windows: Window | Mapping[str, Window]) -> str:
    """Write what ``read_windows`` reads."""
    if isinstance(windows, Mapping):
        entries = {f"{k}=" if k != DEFAULT else "": window_text(v) for k, v in windows.items()}
        return ",".join(f"{name}{window}" for name, window in entries.items())
    return ":".join(map(repr, windows)) if isinstance(windows, tuple) else repr(windows)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in re.split("[,、，]", text) if part.strip()]


def _put_once(entries: dict[str, T], word: str, value: T, given: str) -> None:
    """Enter a word's value.

    Raises:
        UserError: It has one, perhaps in another case.
    """
    word = word.strip()
    if word.casefold() in map(str.casefold, entries):
        raise UserError(f"{given} was given; expected each word once; leave out one of {word!r}")
    entries[word] = value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _are_shares(numbers: Sequence[float]) -> bool:
    return bool(numbers) and all(0.0 <= number <= 1.0 for number in numbers)

"""The controls of an edit, which are handier than its settings are written: windows, chips, words.

    two sliders -> "0.2:0.8"      a chip and a slider -> "snowy=2"      two texts -> "cat|dog"

Imports neither gradio nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ldm.errors import UserError
from ldm.settings.edit_words import read_weights, weights_text
from ldm.settings.option import Option, options_of
from ldm.settings.swap import LowMemorySwapSettings
from optimizedSD.web.fields import Field
from optimizedSD.web.setting_words import LANGUAGES, SETTING_WORDS

LEAST_WEIGHT, MOST_WEIGHT = -3.0, 5.0  # of the slider
LARGEST_WEIGHT = 100.0  # of what is typed: far beyond what a picture survives
_SEPARATORS = re.compile("[,、，=|]")  # a word with one of them cannot be written as a weight
_OPTIONS = {each.name: each for each in options_of(LowMemorySwapSettings)}


def edit_fields() -> list[Field]:
    """Return the controls, in the order in which ``edit_settings`` takes their values."""
    return [
        _text("reweight"),
        _share("cross_replace_steps", "start"),
        _share("cross_replace_steps", "end"),
        _share("self_replace_steps", "start"),
        _share("self_replace_steps", "end"),
        _text("blend", "source"),
        _text("blend", "edit"),
    ]


def edit_settings(values: Sequence[Any]) -> dict[str, Any]:
    """Return the settings that the values of ``edit_fields`` mean.

    Raises:
        UserError: One is of the wrong kind or out of range, or one of two is missing.
    """
    fields = edit_fields()
    weights, *windows, source, edit = (
        field.read(value) for field, value in zip(fields, values, strict=True)
    )
    _check_weights(weights)
    return {
        "reweight": weights.strip() or None,
        "cross_replace_steps": _window(*windows[:2]),
        "self_replace_steps": _window(*windows[2:]),
        "blend": _both(source.strip(), edit.strip()),
    }


def edit_labels(language: str = "en") -> dict[str, str]:
    """Return what messages call these settings, by flag, in one of ``LANGUAGES``."""
    number = LANGUAGES.index(language)
    names = {
        "reweight": ("Weights", "重み", "份量"),
        "cross_replace_steps": ("Words", "語", "詞"),
        "self_replace_steps": ("Layout", "構図", "構圖"),
        "blend": ("Change only", "変える所", "只改變"),
    }
    return {_OPTIONS[name].flag: label[number] for name, label in names.items()}


def chips(words: Iterable[str], typed: str) -> list[tuple[str, str]]:
    """Return what the chips of a prompt say, and the words that they stand for.

    Args:
        words: Of the prompt; each gets one chip, however often it stands there.
        typed: The weights; they may be unfinished.

    Example:
        >>> chips(["a", "snowy", "house", "a"], "Snowy=2")
        [('a', 'a'), ('snowy ×2', 'snowy'), ('house', 'house')]
    """
    known = {word.casefold(): weight for word, weight in _weights_so_far(typed).items()}
    shown: dict[str, tuple[str, str]] = {}
    for word in words:
        folded = word.casefold()
        if not _SEPARATORS.search(word):
            weight = f" ×{known[folded]:g}" if folded in known else ""
            shown.setdefault(folded, (f"{word}{weight}", word))
    return list(shown.values())


def weight_of(word: str, typed: str) -> float:
    """Return a word's weight, within what the slider can show; 1 if it has none.

    Example:
        >>> weight_of("house", "snowy=2, House=-1"), weight_of("tree", "snowy=2")
        (-1.0, 1.0)
    """
    known = {each.casefold(): weight for each, weight in _weights_so_far(typed).items()}
    return min(max(known.get(word.casefold(), 1.0), LEAST_WEIGHT), MOST_WEIGHT)


def with_weight(word: str, weight: float, typed: str) -> str:
    """Return the weights with another one for a word; 1 is not written.

    Raises:
        UserError: What was typed before is no weights.

    Example:
        >>> with_weight("house", -1, "snowy=2"), with_weight("snowy", 1, "Snowy=2, house=-1")
        ('snowy=2, house=-1', 'house=-1')
    """
    weights = read_weights(typed.strip() or None)
    spelled = next((each for each in weights if each.casefold() == word.casefold()), word)
    weights[spelled] = weight
    if weight == 1:
        del weights[spelled]
    return weights_text(weights, between=", ")


def _weights_so_far(typed: str) -> Mapping[str, float]:
    try:
        return read_weights(typed.strip() or None)
    except UserError:
        return {}


def _check_weights(typed: str) -> None:
    for word, weight in read_weights(typed.strip() or None).items():
        if abs(weight) > LARGEST_WEIGHT:
            raise UserError(
                f"--reweight {word}={weight:g} was given; expected a weight from "
                f"{-LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g} on this page; change it"
            )


def _window(start: float, end: float) -> str:
    return f"{start:g}:{end:g}" if start else f"{end:g}"


def _both(source: str, edit: str) -> str | None:
    if bool(source) != bool(edit):
        raise UserError(
            f"--blend {source or edit!r} was given for one prompt only; expected words of both, "
            "which show what may change; fill in both, or neither"
        )
    return f"{source}|{edit}" if source else None


def _text(setting: str, part: str = "") -> Field:
    name = f"{setting}_{part}" if part else setting
    each = replace(_OPTIONS[setting], name=name, optional=False, metavar="", words="")
    return _field(each, "text", "")


def _share(setting: str, part: str) -> Field:
    """Return one end of a window, as a share of the steps."""
    each = Option(
        help="a share of the steps",
        kind=float,
        name=f"{setting}_{part}",
        flag=_OPTIONS[setting].flag,
        minimum=0.0,
        maximum=1.0,
    )
    first = 0.0 if part == "start" else float(getattr(LowMemorySwapSettings, setting))
    return _field(each, "slider", first)


def _field(each: Option, kind: str, value: Any) -> Field:
    key = f"edit.{each.name}"
    words = SETTING_WORDS[key]
    return Field(each, words.label[0], words.info[0], kind, value, key)

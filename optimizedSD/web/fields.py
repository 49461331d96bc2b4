"""The controls of a page, made from the options of its settings, and their way back.

    Option -> Field (label, info, kind, first value) -> ... the user ... -> settings

Knows nothing of the library that shows them. Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from ldm.errors import UserError
from ldm.settings.generation import GenerationSettings
from ldm.settings.option import Option, options_of

Settings = TypeVar("Settings", bound=GenerationSettings)

# What is seen at once, in this order; every other control is under "More settings".
MAIN = [
    "prompt",
    "negative_prompt",
    "strength",
    "H",
    "W",
    "ddim_steps",
    "sampler",
    "scale",
    "n_samples",
    "n_iter",
    "seed",
]
# Chosen on the command line, or by the page itself: a file, a folder, the model, what is written.
NOT_ON_PAGES = frozenset(
    [
        "C",
        "f",
        "n_rows",
        "skip_grid",
        "skip_save",
        "laion400m",
        "use_ema",
        "precision",
        "turbo",
        "unet_bs",
        "vram_budget",
    ]
)
# What the page asks for by other means than a control, in the words that errors use.
ELSEWHERE = {"--init-img": "the picture", "--mask": "the mask"}
# A range of at most so many whole steps is a slider; a wider one would be hard to hit.
WIDEST_SLIDER = 100


@dataclass(frozen=True)
class Field:
    """One control.

    Attributes:
        option: What it sets.
        label: A few words beside it.
        info: More words under the label; may be empty.
        kind: ``text``, ``choice``, ``switch``, ``slider``, ``number``, or ``blank`` for a number
            that may be left out.
        value: What it shows at first; None is nothing.
    """

    option: Option
    label: str
    info: str
    kind: str
    value: Any

    @property
    def name(self) -> str:
        """The setting's name."""
        return self.option.name


def fields_of(schema: type[GenerationSettings], first: Mapping[str, Any]) -> list[Field]:
    """Return the controls of a page, those that are seen at once before the others.

    Args:
        schema: The page's settings class.
        first: Values to show at first in place of the defaults, by setting.

    Raises:
        KeyError: ``first`` names a setting that has no control.
    """
    shown = {each.name: each for each in options_of(schema) if _is_on_pages(each)}
    if unknown := first.keys() - shown.keys():
        raise KeyError(f"no control for {sorted(unknown)}; there are {sorted(shown)}")
    labels = {each.flag: _label(each) for each in shown.values()}
    defaults = {each.name: each.default for each in fields(schema)} | dict(first)
    order = [*(name for name in MAIN if name in shown), *(n for n in shown if n not in MAIN)]
    made = []
    for name in order:
        each = shown[name]
        info = in_words(_info(each, labels[each.flag]), labels)
        made.append(Field(each, labels[each.flag], info, _kind(each), defaults[name]))
    return made


def settings_from(
    schema: type[Settings], controls: Sequence[Field], values: Sequence[Any], **rest: Any
) -> Settings:
    """Turn what a page's controls hold into settings.

    Args:
        schema: The page's settings class.
        controls: The page's.
        values: What each of them holds.
        **rest: Settings that have no control.

    Raises:
        UserError: a value is missing, of another kind, or out of range.
    """
    read = {c.name: _read(c, value) for c, value in zip(controls, values, strict=True)}
    settings = schema(**read, **rest).with_seed()
    settings.validate()
    return settings


def in_words(text: str, labels: Mapping[str, str]) -> str:
    """Put labels where a text names flags of controls.

    Args:
        text: What the library says, to users of command lines.
        labels: The controls' labels by flag.
    """
    named = {flag: f"“{label}”" for flag, label in labels.items()} | ELSEWHERE
    return re.sub(r"(?<![\w-])--[\w-]+", lambda flag: named.get(flag[0], flag[0]), text)


def _is_on_pages(each: Option) -> bool:
    return not (each.metavar or each.name in NOT_ON_PAGES)


def _label(each: Option) -> str:
    """Return the help's first words if they are a name by themselves, else the setting's name."""
    text = _for_pages(each.help)
    head = re.split(r"[;:]| \(", text)[0].strip()
    if head.split()[0] in each.offered:  # the first of the values, which the help explains
        head = each.name.replace("_", " ")
    return head[:1].upper() + head[1:]


def _info(each: Option, label: str) -> str:
    text = _for_pages(each.help)
    rest = text[len(label) :].strip(" ;:") if text.lower().startswith(label.lower()) else text
    empty = f"empty: {each.shown}" if each.optional and each.shown else ""
    return "; ".join(filter(None, (rest, empty)))


def _for_pages(help: str) -> str:
    """Leave out asides about flags: most of them have no control."""
    return re.sub(r" \([^()]*--[^()]*\)", "", help)


def _kind(each: Option) -> str:
    if each.choices:
        return "choice"
    if each.kind is bool:
        return "switch"
    if each.kind is str:
        return "text"
    if each.optional:
        return "blank"
    bounded = each.minimum is not None and each.maximum is not None
    return "slider" if bounded and each.maximum - each.minimum <= WIDEST_SLIDER else "number"


def _read(control: Field, value: Any) -> Any:
    """Turn one control's value into its setting's."""
    each = control.option
    if each.kind not in (int, float):
        each.check(value)
        return value
    if value is None or value == "":
        if each.optional:
            return None
        raise UserError(f"{each.flag} is empty; {each.expected}; fill it in")
    # A browser has one kind of number.
    whole = isinstance(value, float) and value.is_integer()
    return each.read(str(int(value) if whole else value))

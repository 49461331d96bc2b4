"""A page's controls: made from the options of its settings, and read back into settings.

    Option -> Field (label, info, kind, value) -> what the visitor enters -> settings

Imports neither gradio nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, TypeVar

from ldm.errors import UserError
from ldm.settings.adapters import GROUP
from ldm.settings.generation import GenerationSettings
from ldm.settings.option import Option, options_of
from ldm.settings.samplers import SAMPLERS
from ldm.settings.shortcuts import GROUP as SHORTCUTS
from optimizedSD.web.choice_words import choice_words
from optimizedSD.web.setting_words import LANGUAGES, SETTING_WORDS, words_key

Settings = TypeVar("Settings", bound=GenerationSettings)

# Controls that are always visible, in this order; the others are under "More settings".
MAIN = [
    "sprompt",
    "prompt",
    "mode",
    "negative_prompt",
    "strength",
    "only_masked",
    "mask_blur",
    "invert_mask",
    "H",
    "W",
    "ddim_steps",
    "sampler",
    "scale",
    "n_samples",
    "n_iter",
    "seed",
]
# Headings of settings that name the server's files: the model, and what acts on it. Visitors name
# LoRAs and embeddings by tags and words in their prompts, which lead to the models' folders alone.
# Pages draw without shortcuts: one names a file, and all draw other pictures.
FOR_OPERATORS = frozenset({"model", GROUP, SHORTCUTS})
# Settings without a control: the command line or the page itself decides them.
# Named values that are no files' names.
ON_PAGES = frozenset(["only_masked", "outpaint"])
NOT_ON_PAGES = frozenset(
    [
        "C",
        "f",
        "n_rows",
        "skip_grid",
        "skip_save",
        "max_pixels",
        "face_fidelity",  # of a network that whoever runs the page would have to name
    ]
)
# What is uploaded instead of entered: how messages call it, by its flag.
UPLOADS = {"--init-img": "the picture", "--mask": "the mask"}
# The widest range that gets a slider; on a wider one, single values would be hard to hit.
WIDEST_SLIDER = 100


@dataclass(frozen=True)
class Field:
    """One control.

    Attributes:
        option: The option that it sets.
        label: Its name on the page, in English.
        info: An explanation under the label; may be empty.
        kind: ``text``, ``choice``, ``switch``, ``slider``, ``number``, or ``blank`` for a number
            that may be left empty.
        value: What it first shows; None is nothing.
        key: Under which key of ``SETTING_WORDS`` its label and info are written in all languages.
    """

    option: Option
    label: str
    info: str
    kind: str
    value: Any
    key: str | None = None

    @property
    def name(self) -> str:
        """The setting's name."""
        return self.option.name

    def called(self, language: str) -> str:
        """Return its name on a page in one of ``LANGUAGES``."""
        if self.key is None:
            return self.label
        return SETTING_WORDS[self.key].label[LANGUAGES.index(language)]

    def choices(self, language: str) -> list[tuple[str, str]]:
        """Return what a menu shows for each value, and the value."""
        usual = {name: each.label for name, each in SAMPLERS.items()}
        names = usual if self.name == "sampler" else {}
        return [
            (
                choice_words(self.name, each, language)
                or names.get(each)
                or each.replace("_", " "),
                each,
            )
            for each in (("",) if self.option.optional else ()) + self.option.offered
        ]

    def read(self, value: Any) -> Any:
        """Return the setting's value for what the control holds.

        Raises:
            UserError: it is missing, of the wrong kind, or out of range.
        """
        each = self.option
        if each.kind not in (int, float):
            value = None if each.optional and value == "" else value
            each.check(value)
            return value
        if value is None or value == "":
            if each.optional:
                return None
            raise UserError(f"{each.flag} is empty; {each.expected}; fill it in")
        # JavaScript has one kind of number: a whole one may arrive as a float.
        whole = isinstance(value, float) and value.is_integer()
        return each.read(str(int(value) if whole else value))


def fields_of(
    schema: type[GenerationSettings], initial: Mapping[str, Any], fixed: Collection[str] = ()
) -> list[Field]:
    """Return a page's controls: those in ``MAIN`` first, then the others.

    Args:
        schema: The page's settings class.
        initial: What controls first show in place of the defaults, by setting.
        fixed: Settings that get no control.

    Raises:
        KeyError: ``initial`` names a setting that has no control.
    """
    options = [each for each in options_of(schema) if each.name not in fixed]
    shown = {each.name: each for each in options if is_on_pages(each)}
    if unknown := initial.keys() - shown.keys():
        raise KeyError(f"no control for {sorted(unknown)}; there are {sorted(shown)}")
    keys = {name: words_key(name, schema) for name in shown}
    labels = {each.flag: _label(each, keys[each.name]) for each in shown.values()}
    defaults = {each.name: each.default for each in fields(schema)} | dict(initial)
    order = [*(name for name in MAIN if name in shown), *(n for n in shown if n not in MAIN)]
    made = []
    for name in order:
        each = shown[name]
        label = labels[each.flag]
        info = with_labels(_info(each, label, keys[name]), labels)
        made.append(Field(each, label, info, _kind(each), defaults[name], keys[name]))
    return made


def settings_from(
    schema: type[Settings], controls: Sequence[Field], values: Sequence[Any], **rest: Any
) -> Settings:
    """Turn the values of a page's controls into settings.

    Args:
        schema: The page's settings class.
        controls: The page's controls.
        values: The value of each control, in the same order.
        **rest: Settings that have no control.

    Raises:
        UserError: a value is missing, of the wrong kind, or out of range.
    """
    read = {c.name: c.read(value) for c, value in zip(controls, values, strict=True)}
    settings = schema(**read, **rest).with_seed()
    settings.validate()
    return settings


def with_labels(
    text: str,
    labels: Mapping[str, str],
    values: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> str:
    """Replace each flag in a message by the label of its control.

    Args:
        text: A message of the library, written for the command line.
        labels: The controls' labels by flag; other flags stay as they are.
        values: What the controls call their values, by flag: a value behind its flag is called so.

    Example:
        >>> with_labels("--n_iter 9; --seed_mode x y", {"--n_iter": "Rounds", "--seed_mode": "Of"},
        ...             {"--seed_mode": {"x": "all"}})
        '“Rounds” 9; “Of”: “all” y'
    """
    named = {flag: f"“{label}”" for flag, label in labels.items()} | UPLOADS

    def called(found: re.Match[str]) -> str:
        flag, space, value = found["flag"], found["space"] or "", found["value"] or ""
        if value in values.get(flag, ()):
            return f"{named[flag]}: “{values[flag][value]}”"
        return named.get(flag, flag) + space + value

    flag = r"(?<![\w-])(?P<flag>--[\w-]+)((?P<space> )(?P<value>[A-Za-z0-9][\w-]*))?"
    return re.sub(flag, called, text)


def is_on_pages(each: Option) -> bool:
    """Return whether a setting is for visitors: it names no file, and not the run as a whole."""
    names_a_file = each.metavar and each.name not in ON_PAGES
    return not (names_a_file or each.group in FOR_OPERATORS or each.name in NOT_ON_PAGES)


def _label(each: Option, key: str | None) -> str:
    """Return what is written for it, or its help up to the first ``;``, ``:`` or ``(``."""
    if key is not None:
        return SETTING_WORDS[key].label[0]
    text = _without_asides(each.help)
    head = re.split(r"[;:]| \(", text)[0].strip()
    if head.split()[0] in each.offered:  # the help starts by explaining the values
        head = each.name.replace("_", " ")
    return head[:1].upper() + head[1:]


def _info(each: Option, label: str, key: str | None) -> str:
    if key is not None:
        return SETTING_WORDS[key].info[0]
    text = _without_asides(each.help)
    rest = text[len(label) :].strip(" ;:") if text.lower().startswith(label.lower()) else text
    empty = f"empty: {each.shown}" if each.optional and each.shown else ""
    return "; ".join(filter(None, (rest, empty)))


def _without_asides(help: str) -> str:
    """Leave out what a help text says about flags in parentheses: most have no control."""
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

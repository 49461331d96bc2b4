"""An axis of a sweep: a setting and its values, such as ``scale: 2-21 [7]``. Imports no torch.

Settings go by their flags (``ddim_steps``), and by the names that AUTOMATIC1111 has for them
("Steps", "CFG scale"). ``prompt`` is special, as it is there: the first text is searched in the
prompts and replaced by each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ldm.errors import UserError
from ldm.legible import legible, quoted
from ldm.settings.generation import GenerationSettings
from ldm.settings.mistyped import alike
from ldm.settings.option import TRUTHS, Option, one_of, options_of
from ldm.settings.samplers import sampler_named, spacing_named
from ldm.sweeps.ranges import read_numbers, read_texts

SEARCHED = "prompt"
# About files and the run as a whole, not about a picture.
_FIXED = frozenset(
    {
        *("from_file", "from_image", "max_pixels", "outdir", "skip_grid", "skip_save", "format"),
        *("n_iter", "n_samples", "n_rows", "seed_mode", "fixed_code", "config", "trust_config"),
        *("device", "C", "f", "laion400m", "hint_only"),
    }
)
# Other programs' names, without blanks and signs.
_ALSO = {
    "promptsr": SEARCHED,
    "promptsearchreplace": SEARCHED,
    "checkpoint": "ckpt",
    "checkpointname": "ckpt",
    "model": "ckpt",
    "cfg": "scale",
    "denoising": "strength",
    "width": "W",
    "height": "H",
}
_TRUTHS = {"on": True, "off": False} | TRUTHS
_NONE = "none"


@dataclass(frozen=True)
class Axis:
    """A setting and the values that it takes.

    Attributes:
        name: The setting's name.
        labels: Its values as a sheet shows them.
        values: The values themselves; of ``prompt``, what the first one is replaced by.
    """

    name: str
    labels: tuple[str, ...]
    values: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.values)

    def applied(self, settings: GenerationSettings, number: int) -> GenerationSettings:
        """Return settings with the axis's value of that number.

        Raises:
            UserError: The text to replace is in none of the prompts.
        """
        if self.name != SEARCHED:
            return replace(settings, **{self.name: self.values[number]})
        searched, put = self.values[0], self.values[number]
        texts = {name: getattr(settings, name) for name in ("prompt", "negative_prompt")}
        if not any(searched in text for text in texts.values()):
            raise UserError(
                f"{quoted(searched)} is to be replaced; expected a text that stands in the prompt "
                f"{quoted(settings.prompt)} or in the negative one; change one of them"
            )
        return replace(settings, **{k: text.replace(searched, put) for k, text in texts.items()})


def read_axis(text: str, schema: type[GenerationSettings]) -> Axis:
    """Read ``NAME: VALUES``.

    Args:
        text: What was typed.
        schema: The settings of the pictures.

    Raises:
        UserError: There is no such setting, it cannot be swept, or a value is wrong.

    Example:
        >>> from ldm.settings.generation import Txt2ImgSettings
        >>> read_axis("CFG scale: 1, 2-4", Txt2ImgSettings)
        Axis(name='scale', labels=('1', '2', '3', '4'), values=(1.0, 2.0, 3.0, 4.0))
    """
    name, colon, typed = text.partition(":")
    if not colon or not name.strip() or not typed.strip():
        raise UserError(
            f"{quoted(text)} was given as an axis; expected a setting, a colon and its values, "
            'such as "scale: 2-21 [7]"; change it'
        )
    option = _option_named(name.strip(), schema)
    if option.name == SEARCHED:
        labels = read_texts(typed)
        return Axis(SEARCHED, tuple(labels), tuple(labels))
    numeric = option.kind in (int, float) and not option.several
    labels = read_numbers(typed, whole=option.kind is int) if numeric else read_texts(typed)
    return Axis(option.name, tuple(labels), tuple(_value(option, each) for each in labels))


def sweepable(schema: type[GenerationSettings]) -> dict[str, Option]:
    """Return the settings that an axis can be of, by name."""
    return {each.name: each for each in options_of(schema) if each.name not in _FIXED}


def _option_named(name: str, schema: type[GenerationSettings]) -> Option:
    options = sweepable(schema)
    if name.lstrip("-") in options:  # W and w are not the same
        return options[name.lstrip("-")]
    known: dict[str, str] = {}
    for each in options.values():
        known |= dict.fromkeys(
            map(_bare, (each.infotext or each.name, each.flag, each.name)), each.name
        )
    known |= {other: ours for other, ours in _ALSO.items() if ours in options}
    if _bare(name) in known:
        return options[known[_bare(name)]]
    if _bare(name) in {_bare(each) for each in _FIXED}:
        raise UserError(
            f"the setting {quoted(name)} cannot be an axis, as it is one of the whole run; "
            "expected one of a picture, such as scale, seed or sampler; give it as a flag"
        )
    near = alike(f"--{name}", options)
    hint = f"did you mean {near}?" if near else "the flags of --help are such names"
    raise UserError(
        f"{quoted(name)} was given as an axis; expected a setting of {schema.program}, such as "
        f"scale, seed, sampler or prompt; {hint}"
    )


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _value(option: Option, typed: str) -> Any:
    """Read one value, where ``none`` is that of a setting that may have none."""
    if typed.lower() == _NONE and (option.optional or option.several):
        return () if option.several else None
    if option.kind is bool:
        if typed.lower() not in _TRUTHS:
            raise UserError(
                f"{option.name} {legible(typed)} was given; expected {one_of(_TRUTHS)}; change it"
            )
        return _TRUTHS[typed.lower()]
    if option.choices and not option.several:
        return option.read(_choice(option, typed))
    return option.read([typed] if option.several else typed)


def _choice(option: Option, typed: str) -> str:
    """Return a choice by its own name, in any case, or by the label that pictures record."""
    if typed in option.offered:
        return typed
    by_label = {
        "sampler": lambda label: sampler_named(label, None, own=False),
        "spacing": spacing_named,
    }
    lower: Mapping[str, str] = {each.lower(): each for each in option.offered}
    if typed.lower() in lower:
        return lower[typed.lower()]
    try:
        return by_label[option.name](typed)
    except KeyError:
        return typed  # which is then refused by name

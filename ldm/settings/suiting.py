"""What suits a model, which its YAML names under ``sampling``: taken where the user named nothing.

    sampling: { scale: 3, sampler: dpmpp_2m, steps: 20 }

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ldm.errors import UserError
from ldm.legible import quoted
from ldm.settings.generation import GenerationSettings, Txt2ImgSettings
from ldm.settings.option import Option, one_of, options_of
from ldm.settings.samplers import check_walk

Settings = TypeVar("Settings", bound=GenerationSettings)

# The settings that a model may name, by the word for each in its YAML.
SUITING = {
    "scale": "scale",
    "steps": "ddim_steps",
    "sampler": "sampler",
    "spacing": "spacing",
    "H": "H",
    "W": "W",
    "clip_skip": "clip_skip",
}
# They belong together: other steps or another spacing suit another sampler.
WALK = ("sampler", "spacing", "ddim_steps", "ddim_eta")


def read_suiting(entries: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Return the settings that a model's YAML names, by field name.

    Args:
        entries: What stands under ``sampling``.
        where: The file, for messages.

    Raises:
        UserError: A setting that a model cannot name, a value that it cannot have, or a sampler
            with a spacing that is not for it.
    """
    if not entries:  # most models say nothing
        return {}
    options = {each.name: each for each in options_of(Txt2ImgSettings)}
    found: dict[str, Any] = {}
    for word, value in entries.items():
        if word not in SUITING:
            raise UserError(
                f"{where}: sampling.{quoted(str(word))} is none of a model's settings; expected "
                f"{one_of(SUITING)}; correct it"
            )
        each = options[SUITING[word]]
        if value is not None:
            found[each.name] = _checked(each, value, f"{where}: sampling.{word}")
    usual = Txt2ImgSettings
    sampler, spacing = (found.get(n, getattr(usual, n)) for n in ("sampler", "spacing"))
    try:
        check_walk(sampler, spacing, 0.0, "--ddim_eta")
    except UserError as error:
        raise UserError(f"{where}: sampling: {error}") from None
    return found


def _checked(each: Option, value: Any, where: str) -> Any:
    if each.name == "scale":  # no model is at its best without its prompt, or against it
        each = replace(each, words="a number above 0")
    try:
        each.check(value)
        if each.name == "scale" and value <= 0:
            raise UserError("")
    except UserError:
        raise UserError(f"{where} is {quoted(value)}; {each.expected}; correct it") from None
    return each.kind(value)


def suiting(
    settings: GenerationSettings, own: Mapping[str, Any], named: Collection[str]
) -> dict[str, Any]:
    """Return those of a model's settings that a run takes.

    Who names a sampler, a spacing or noise has thought of the walk: none of the model's is mixed
    into it. The size is that of pictures from noise.

    Args:
        settings: The run's.
        own: The model's, as ``read_suiting`` returns them.
        named: Settings that the user gave.
    """
    if not own:
        return {}
    kept = {*named, *settings.fixed_by_task}
    left = {name: value for name, value in own.items() if name not in kept}
    if {"sampler", "spacing", "ddim_eta"} & kept:
        left = {name: value for name, value in left.items() if name not in WALK}
    if settings.starts_from_picture:
        left = {name: value for name, value in left.items() if name not in ("H", "W")}
    known = {each.name for each in options_of(settings)}
    return {name: value for name, value in left.items() if name in known}


def suited_to(settings: Settings, own: Mapping[str, Any], named: Collection[str]) -> Settings:
    """Return settings with a model's own where the user named none; arguments as ``suiting``."""
    return replace(settings, **suiting(settings, own, named))


def in_words(own: Mapping[str, Any]) -> str:
    """Say a model's settings in words.

    Example:
        >>> in_words({"scale": 3.0, "sampler": "dpmpp_2m", "ddim_steps": 20})
        'scale 3, sampler dpmpp_2m, steps 20'
    """
    words = {name: word for word, name in SUITING.items()}
    shown = {name: f"{v:g}" if isinstance(v, float) else v for name, v in own.items()}
    return ", ".join(f"{words[name].replace('_', ' ')} {value}" for name, value in shown.items())

"""LoRAs in other programs' recipes, as tags such as ``<lora:style:0.8>`` that are read here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PureWindowsPath
from typing import Any

_ENDINGS = (".safetensors", ".pt", ".ckpt", ".bin")
_NAME = re.compile(r"[^<>:,|]{1,200}")  # what a tag can hold
_COMBINED = re.compile(r"lora_combined_\d+")


def take_loras(values: dict[str, Any]) -> list[str]:
    """Take the LoRAs that have a name and a weight out of a recipe; return their tags.

    Args:
        values: Settings under the program's own names, in lower case; what is read is taken out.
            Entries of which not all is understood stay as they are.
    """
    tags: list[str] = []
    for key in [key for key in values if key in ("loras", "lora") or _COMBINED.fullmatch(key)]:
        value = values[key]
        found = [_tag(*each) for each in _pairs(value, values.get("loraweights"))]
        if found and None not in found:
            tags += found
            del values[key]
    if tags:
        values.pop("loraweights", None)
    return tags


def _pairs(value: Any, weights: Any) -> Iterator[tuple[Any, Any]]:
    """Yield names and weights, as InvokeAI, Fooocus, SwarmUI, Draw Things and graphs have them."""
    if isinstance(value, str):
        name, colon, weight = value.rpartition(" : ")  # Fooocus: "style.safetensors : 0.5"
        yield (name, weight) if colon else (None, None)
        return
    if not isinstance(value, list):
        return
    if isinstance(weights, list) and len(weights) == len(value):
        yield from zip(value, weights, strict=True)
        return
    for each in value:
        if isinstance(each, dict):
            held = each.get("lora") or each.get("model") or each
            name = held if isinstance(held, str) else _named(held)
            yield name, each.get("weight", each.get("strength"))
        elif isinstance(each, list | tuple) and len(each) >= 2:
            yield each[0], each[1]
        else:
            yield None, None


def _named(held: Any) -> Any:
    if not isinstance(held, dict):
        return None
    return held.get("model_name") or held.get("name") or held.get("lora_name")


def _tag(name: Any, weight: Any) -> str | None:
    try:
        number = float(weight)
    except (TypeError, ValueError, OverflowError):
        return None
    if not isinstance(name, str) or abs(number) > 100 or number != number:  # NaN
        return None
    path = PureWindowsPath(name)  # which knows both kinds of slashes
    stem = path.stem if path.suffix.lower() in _ENDINGS else path.name
    return f"<lora:{stem}:{number:g}>" if _NAME.fullmatch(stem) else None

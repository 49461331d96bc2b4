"""Single settings read from pictures' texts, and the files of networks that they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ldm.settings.hires import LABELS, upscaler_named
from ldm.settings.option import Option, Settings
from ldm.settings.samplers import FORM, sampler_named, spacing_named

NETWORKS = {"hires_upscaler": "Hires upscaler hash", "upscaler": "SD upscale upscaler hash"}
"""Settings that may name a network which enlarges, and the entries with its file's hash."""


def read_value(each: Option, entries: Mapping[str, str], *, own: bool) -> Any:
    """Read a setting's value.

    Args:
        each: The setting.
        entries: What the picture records, this setting among it.
        own: Whether this project drew the picture.

    Raises:
        ValueError, KeyError: There is no such value.
    """
    text = entries[each.infotext]
    if each.name == "sampler":
        return sampler_named(text, entries.get(FORM), own=own)
    if each.name == "spacing":
        return each.read(spacing_named(text))
    if each.name in NETWORKS:
        return _upscaler(each, text)
    if each.name == "emphasis":
        return each.read(text.lower().replace(" ", "-"))
    if each.name == "fill":
        text = text.lower().removeprefix("latent ")  # AUTOMATIC1111's names
    if each.kind is bool:
        return {"True": True, "False": False}[text]
    return each.read(text.lower() if each.choices else text)


def _upscaler(each: Option, text: str) -> str:
    """Return a way to enlarge, which may be a network on its shelf.

    A picture is a stranger's: what it names is looked for on the shelf alone, in no other folder.

    Raises:
        UserError: There is none of that name.
    """
    name = each.read(upscaler_named(text))
    if name not in LABELS:
        from ldm.pipelines.adapter_files import find_named
        from ldm.pipelines.networks import UPSCALERS

        find_named(UPSCALERS, name)
    return name


def network_entries(settings: Settings) -> dict[str, str]:
    """Return what records the files of the networks that settings name; most name none."""
    entries = {}
    for name, key in NETWORKS.items():
        value = getattr(settings, name, None)
        if value is not None and value not in LABELS and name not in settings.unrecorded:
            from ldm.pipelines.adapter_files import SHORT, full_hash
            from ldm.pipelines.networks import UPSCALERS, find_network

            entries[key] = full_hash(find_network(UPSCALERS, value))[:SHORT]
    return entries


def changed_networks(
    path: str, entries: Mapping[str, str], values: Mapping[str, Any]
) -> Iterator[str]:
    """Say which networks are other files than when a picture was drawn.

    Args:
        path: The picture.
        entries: What it records.
        values: The settings that were read of it.
    """
    for name, key in NETWORKS.items():
        value = values.get(name)
        if key not in entries or value is None or value in LABELS:
            continue
        from ldm.pipelines.adapter_files import SHORT, find_named, full_hash
        from ldm.pipelines.networks import UPSCALERS

        if full_hash(find_named(UPSCALERS, value))[:SHORT] != entries[key]:
            yield f"{path} was enlarged by another {value} than the one here: expect a difference"

"""Samplers and schedules by AUTOMATIC1111's names, in requests and in lists. Imports no torch."""

from __future__ import annotations

from typing import Any

from apps.server.front.values import Fields, Unfit
from ldm.images.metadata import split_sampler
from ldm.legible import quoted
from ldm.settings.samplers import SAMPLERS, SPACINGS, sampler_named, samplers_for, spacing_named

AUTOMATIC = "automatic"
FIRST_SAMPLER = "Euler"
"""What AUTOMATIC1111 draws with where no sampler is named."""
_LONGEST_NAME = 100


def read_walk(fields: Fields) -> tuple[dict[str, Any], list[str]]:
    """Read which sampler, schedule and eta a request asks for.

    Returns:
        Settings by name, and what is ignored.

    Raises:
        Unfit: There is no such sampler or schedule, or the sampler does not take it.
    """
    name = fields.text("sampler_name", "", most=_LONGEST_NAME)
    older = fields.text("sampler_index", "", most=_LONGEST_NAME)
    label, schedule = split_sampler({"Sampler": name or older or FIRST_SAMPLER})
    sampler = _sampler(label, "sampler_name" if name else "sampler_index")
    named = fields.text("scheduler", "", most=_LONGEST_NAME) or schedule or AUTOMATIC
    spacing = _spacing(named, sampler)
    eta, ignored = _eta(fields, sampler)
    return {"sampler": sampler, "spacing": spacing, "ddim_eta": eta}, ignored


def _sampler(label: str, field: str) -> str:
    plain = label.lower().removeprefix("k_")
    if plain in SAMPLERS:
        return plain
    try:
        return sampler_named(label, None, own=False)
    except KeyError as error:
        known = ", ".join(dict.fromkeys(entry.label for entry in SAMPLERS.values()))
        raise Unfit(
            f"{field} {quoted(label)} is unknown; expected one of {known}; see /sdapi/v1/samplers",
            field,
        ) from error


def _spacing(label: str, sampler: str) -> str:
    if label.lower() == AUTOMATIC:
        return SAMPLERS[sampler].schedule or "uniform"
    try:
        spacing = spacing_named(label)
    except KeyError as error:
        raise Unfit(
            f"scheduler {quoted(label)} is unknown; expected {AUTOMATIC} or one of "
            f"{', '.join(SPACINGS)}; see /sdapi/v1/schedulers",
            "scheduler",
        ) from error
    if sampler not in samplers_for(spacing):
        raise Unfit(
            f"scheduler {quoted(label)} was given with {SAMPLERS[sampler].label}, which has no "
            f"such schedule; expected {AUTOMATIC}, or another sampler; change one",
            "scheduler",
        )
    return spacing


def _eta(fields: Fields, sampler: str) -> tuple[float, list[str]]:
    """Return the eta of DDIM; for others it is what they always add, or means nothing."""
    entry = SAMPLERS[sampler]
    if entry.eta == "used":
        return fields.number("eta", 0.0, low=0.0, high=1.0), []
    eta = fields.number("eta", 1.0, low=0.0, high=100.0)
    adds_noise = entry.label.endswith(" a") or "SDE" in entry.label
    if adds_noise and eta != 1.0:
        raise Unfit(
            f"eta {eta:g} was given with {entry.label}; expected 1, the noise that it adds; "
            "leave it out, or use a sampler that adds none",
            "eta",
        )
    unheeded = fields.given("eta") and not adds_noise
    return 0.0, [f"eta: {entry.label} has none"] if unheeded else []


def list_samplers() -> list[dict[str, Any]]:
    """Return the samplers as ``/sdapi/v1/samplers`` lists them."""
    listed = {}
    for name, entry in SAMPLERS.items():
        options = {"scheduler": entry.schedule} if entry.schedule else {}
        # Of two with one label, requests mean the last.
        listed[entry.label] = {"name": entry.label, "aliases": [name], "options": options}
    return list(listed.values())


def list_schedulers() -> list[dict[str, Any]]:
    """Return the schedules as ``/sdapi/v1/schedulers`` lists them."""
    first = _listed_schedule(AUTOMATIC, "Automatic", [])
    offered = [(name, entry) for name, entry in SPACINGS.items() if entry.offered]
    others = [_listed_schedule(n, e.label or n.title(), [*e.synonyms]) for n, e in offered]
    return [first, *others]


def _listed_schedule(name: str, label: str, aliases: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "aliases": aliases or None,
        "default_rho": -1.0,
        "need_inner_model": False,
    }

"""AUTOMATIC1111's "hires fix" in requests: which of its fields ask for what. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.server.front.values import Fields, about
from apps.server.sdapi.fields import SECOND_NOT_DONE, SECOND_PASS
from ldm.pipelines.adapter_files import find_named, on_shelf
from ldm.pipelines.networks import HIRES_UPSCALERS
from ldm.settings.hires import LABELS, LARGEST_HIRES, upscaler_named

_LONGEST_NAME = 100
_THEIR_STRENGTH = 0.75


def read_second_pass(fields: Fields, most_steps: int) -> Mapping[str, Any]:
    """Return the settings of a second walk by name; none where no second pass is asked for.

    Args:
        fields: The request's.
        most_steps: That a walk may take.

    Raises:
        Unfit: Something is asked for that is not done, or a field cannot have its value.
    """
    if not fields.truth("enable_hr", False):
        fields.ignore((*SECOND_PASS, *SECOND_NOT_DONE))
        return {}
    for name, (allowed, why) in SECOND_NOT_DONE.items():
        fields.only(name, allowed, why)
    strength = fields.number("denoising_strength", _THEIR_STRENGTH, low=0.0, high=1.0)
    steps = fields.whole("hr_second_pass_steps", 0, low=0, high=most_steps)
    named = fields.text("hr_upscaler", "", most=_LONGEST_NAME)
    upscaler = upscaler_named(named) if named else "latent"
    if upscaler not in LABELS:
        with about("hr_upscaler"):
            upscaler = str(find_named(HIRES_UPSCALERS, upscaler, f"hr_upscaler {named}").stem)
    return {
        "hires": fields.number("hr_scale", 2.0, low=1.0, high=LARGEST_HIRES),
        "hires_steps": steps or None,
        "hires_upscaler": upscaler,
        "hires_strength": strength,
    }


def list_latent_upscalers() -> list[dict[str, str]]:
    """Return the ways to enlarge latents."""
    return [{"name": label} for label in LABELS.values() if label.startswith("Latent")]


def networks() -> list[str]:
    """Return the names of the networks on their shelf."""
    return list(dict.fromkeys(path.stem for path in on_shelf(HIRES_UPSCALERS)))

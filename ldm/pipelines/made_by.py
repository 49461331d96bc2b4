"""Tell which program drew a picture, ours or another, and bring what that has to what is here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ldm.errors import UserError
from ldm.images.metadata import split_sampler
from ldm.pipelines.source_files import EDITED, INPAINTING
from ldm.settings.generation import GenerationSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.samplers import SAMPLERS, SPACINGS

# AUTOMATIC1111 writes only some of these, depending on its version.
_INPAINTINGS = (INPAINTING[0], "Mask blur", "Masked content", "Mask mode")
# What its schedule "Automatic" is; of the samplers that are not here, k-diffusion's own.
_AUTOMATIC = {
    each.label: SPACINGS[each.schedule].label for each in SAMPLERS.values() if each.schedule
}


def check_program(
    path: str,
    schema: type[GenerationSettings],
    entries: Mapping[str, str],
    given: Collection[str] = (),
) -> None:
    """Check that a program draws such pictures as the one whose entries these are.

    Args:
        path: The picture.
        schema: The program's settings class.
        entries: What the picture records.
        given: Names of settings that the user overrides.

    Raises:
        UserError: It records no seed and none is given, or it was made in another way.
    """
    if "Seed" not in entries and "seed" not in given:
        raise UserError(
            f"--from-image {path} holds text but no seed; expected AUTOMATIC1111's parameters as "
            "these scripts write them; give another picture"
        )
    repaints = issubclass(schema, InpaintSettings)
    masked = is_inpainting(entries)
    if masked and not repaints and schema.task != "edit":
        raise UserError(
            f"--from-image {path} is an inpainting; expected a picture made without a mask; "
            "use scripts/inpaint.py"
        )
    if repaints and not masked:
        raise UserError(
            f"--from-image {path} was made without a mask; expected an inpainting; use "
            "scripts/txt2img.py or scripts/img2img.py"
        )
    from_picture = is_from_picture(entries)
    if EDITED in entries and schema.task != "edit":
        raise UserError(
            f"--from-image {path} is an edit of another prompt's picture; expected a picture made "
            "without one; use scripts/swap.py"
        )
    if from_picture and schema.init == "none":
        raise UserError(
            f"--from-image {path} was made from another picture; expected one made from text "
            "alone; use scripts/img2img.py"
        )
    if schema.init == "required" and not from_picture:
        raise UserError(
            f"--from-image {path} was made from text alone; expected one made from a picture; "
            "use scripts/txt2img.py"
        )


def is_inpainting(entries: Mapping[str, str]) -> bool:
    """Return whether a picture was made by repainting a part of another."""
    return any(key in entries for key in _INPAINTINGS)


def is_from_picture(entries: Mapping[str, str]) -> bool:
    """Return whether a picture was made from another one."""
    # The web UI's "hires fix" has a denoising strength too, in pictures made from text alone.
    hires = any(key.startswith("Hires") or key == "First pass size" for key in entries)
    return "Denoising strength" in entries and not hires


def with_schedule(entries: Mapping[str, str]) -> dict[str, str]:
    """Return entries in which the noise schedule is one of its own and has a name."""
    entries = dict(entries)
    sampler, schedule = split_sampler(entries)
    if schedule == "Automatic":
        schedule = _AUTOMATIC.get(sampler)
    entries |= {"Sampler": sampler} if sampler else {}
    entries.pop("Schedule type", None)
    return entries if schedule is None else {**entries, "Schedule type": schedule}


def fit_size(
    values: Mapping[str, Any], given: Collection[str], multiple: int
) -> tuple[dict[str, Any], list[str]]:
    """Return recorded settings with a size that the model can draw, and a notice if it is another.

    Args:
        values: The settings, recorded or given.
        given: Names of those that the user gave, which stay as they are.
        multiple: What sides have to be multiples of, in pixels.
    """
    sides = {name: values[name] for name in ("W", "H") if values.get(name) and name not in given}
    fitted = {k: max(round(side / multiple), 1) * multiple for k, side in sides.items()}
    if fitted == sides:
        return dict(values), []
    old, new = ("x".join(map(str, each.values())) for each in (sides, fitted))
    text = f"the recorded size {old} is not a multiple of {multiple}: {new} is drawn"
    return {**values, **fitted}, [text]

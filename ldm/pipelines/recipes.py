"""Any program's recipe of a picture as settings of ours, for fields that a page fills.

What ``ldm.pipelines.infotext`` reads for redrawing is read here without its conditions: a missing
seed, init image or LoRA leaves a field as it is and is said, instead of ending a run. Imports no
torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ldm.errors import UserError
from ldm.images import recipes
from ldm.pipelines.batches import Place
from ldm.pipelines.infotext import read_picture
from ldm.pipelines.made_by import EDITED, is_from_picture, is_inpainting
from ldm.pipelines.recorded_controls import RecordedControl, recorded_controls
from ldm.pipelines.source_files import INIT_IMAGE, MASK, UNNAMED
from ldm.settings.generation import GenerationSettings, Img2ImgSettings, Txt2ImgSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.swap import SwapSettings

_FILES = frozenset(each.name for each in (INIT_IMAGE, MASK, *UNNAMED))
_ADAPTERS = frozenset({"prompt", "lora", "embedding", "control", "image_encoder"})


@dataclass(frozen=True)
class Recipe:
    """How a picture was made, in our words.

    Attributes:
        values: Settings by the names of ``schema``'s fields, those alone that the file says.
        unknown: Sentences about what of the recipe is not in ``values``, or not the same here.
        source: The program that wrote it.
        schema: What draws such a picture: text-to-image, image-to-image, inpainting or an edit.
        place: Where in a run of ours it was drawn; None for other programs' pictures.
        controls: What looked at pictures meanwhile; not in ``values``, since such files and
            pictures need not be here.
    """

    values: Mapping[str, Any]
    unknown: tuple[str, ...]
    source: str
    schema: type[GenerationSettings]
    place: Place | None = None
    controls: tuple[RecordedControl, ...] = ()


def read_recipe(picture: str | Path | Image.Image) -> Recipe:
    """Read how a picture was made: PNG, JPEG or WebP, by this or by another program.

    Args:
        picture: A file, or a picture that was opened and loaded.

    Raises:
        UserError: The file cannot be read, says nothing of how it was made, or says it in a way
            that nothing can be made of; in one line.
    """
    if isinstance(picture, Image.Image):
        name, found = "the picture", recipes.recipe_in(picture)
    else:
        name, found = Path(picture).name, recipes.read_recipe(picture)
    if found is None:
        raise UserError(
            f"{name} does not say how it was made; expected a picture as a program saved it "
            "(edited and sent ones have lost that); fill in the fields by hand"
        )
    schema = _schema_of(found.entries)
    controls, said = recorded_controls(found.entries)
    left = {key: value for key, value in found.entries.items() if key not in said}
    found = replace(found, entries=left)
    given = _FILES if "Seed" in found.entries else _FILES | {"seed"}
    notices: list[str] = []
    try:
        recorded = read_picture(name, schema, given, found)
    except UserError as error:  # a LoRA of ours that is gone, an entry that is none
        notices.append(str(error))
        recorded = read_picture(name, schema, given | _ADAPTERS, found)
    notices += recorded.notices
    if "seed" in given:
        notices.append(f"{name} records no seed: every seed gives another picture")
    place = recorded.place
    if place is not None and place.index > 0 and recorded.values.get("seed_mode") != "per-image":
        notices.append(
            f"{name} was picture {place.index + 1} of its run: alone, its seed gives another one; "
            "draw it again from its file to get the same"
        )
    values = {k: v for k, v in recorded.values.items() if k in schema.__dataclass_fields__}
    source, unknown = _source(found, place), tuple(dict.fromkeys(notices))
    return Recipe(values, unknown, source, schema, place, controls)


def _schema_of(entries: Mapping[str, str]) -> type[GenerationSettings]:
    if EDITED in entries:
        return SwapSettings
    if is_inpainting(entries):
        return InpaintSettings
    return Img2ImgSettings if is_from_picture(entries) else Txt2ImgSettings


def _source(found: recipes.Recipe, place: Place | None) -> str:
    if place is not None:
        return "this project"
    return found.program or "AUTOMATIC1111 or a program that writes as it does"

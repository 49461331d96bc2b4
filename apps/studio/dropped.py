"""A picture that somebody drops on the page: its recipe as values of a tab's fields.

Any program's PNG, JPEG or WebP is read by ``ldm.pipelines.recipes``; what cannot be understood, or
is not for a visitor to choose, is said. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ldm.pipelines.recipes import Recipe, read_recipe
from ldm.pipelines.recorded_controls import RecordedControl
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.option import options_of
from ldm.settings.swap import SwapSettings

# Which tab draws such pictures.
TABS = ((SwapSettings, "edit"), (InpaintSettings, "repaint"), (Img2ImgSettings, "image"))
# Of a whole run or of the machine: a picture's are not a visitor's to set, and change no picture.
_UNSAID = frozenset({"n_iter", "n_samples", "outdir", "device", "format", "precision", "batch_cfg"})


@dataclass(frozen=True)
class Dropped:
    """What a picture says of how it was made.

    Attributes:
        tab: The tab that draws such pictures: text, image, repaint or edit.
        values: Values of the tab's fields, by setting, where the picture says one.
        source: The program that wrote it.
        sentences: What was not understood, or is not the same here.
        controls: What looked at pictures while it was drawn.
    """

    tab: str
    values: Mapping[str, Any]
    source: str
    sentences: tuple[str, ...]
    controls: tuple[RecordedControl, ...] = ()


def dropped(picture: str | Path | Image.Image, fields: Collection[str] | None = None) -> Dropped:
    """Read a dropped picture.

    Args:
        picture: The file, or the picture.
        fields: Settings that the page has fields for; None is all that a recipe may hold.

    Raises:
        UserError: It is no picture, or does not say how it was made.
    """
    return of_recipe(read_recipe(picture), fields)


def of_recipe(recipe: Recipe, fields: Collection[str] | None = None) -> Dropped:
    """Return a recipe as values of fields; arguments as ``dropped``."""
    options = {each.name: each for each in options_of(recipe.schema)}
    sentences = list(recipe.unknown)
    values, without = {}, []
    for name, value in recipe.values.items():
        each = options.get(name)
        if each is None or name in _UNSAID:
            continue
        if fields is not None and name not in fields:
            if value != getattr(recipe.schema, name, None):
                shown = value if isinstance(value, (str, int, float)) else "…"
                without.append(f"{each.infotext or name} {shown}")
            continue
        values[name] = value
    if without:
        sentences.append(f"not on this page, and left out: {', '.join(without)}")
    tab, controls = tab_of(recipe.schema), recipe.controls
    return Dropped(tab, values, recipe.source, tuple(sentences), controls)


def tab_of(schema: type[Txt2ImgSettings] | type[Any]) -> str:
    """Return the tab whose pictures a settings class draws."""
    return next((tab for base, tab in TABS if issubclass(schema, base)), "text")

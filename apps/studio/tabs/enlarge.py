"""The tab that makes pictures larger: by the model in tiles, or by resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from apps.studio.form import Form, fields_for
from apps.studio.panel import Panel
from apps.studio.pictures import picture_field, picture_of
from apps.studio.queue import Desk, Drawing, Job
from apps.studio.state import Studio, Tab
from apps.studio.words import shown
from ldm.errors import UserError
from ldm.images.io import save_numbered
from ldm.settings.low_memory import ForkHabits, SmallDevice
from ldm.settings.option import changed
from ldm.settings.upscale_tile import TileUpscaleSettings

NAME = "enlarge"
METHODS = ("by_tiles", "by_lanczos")
SIDES = 4  # times the largest side that is drawn at once: only tiles of it are
FOLDER, PATTERN = "enlarged", "{:05d}.png"


@dataclass(frozen=True, kw_only=True)
class TabSettings(ForkHabits, TileUpscaleSettings):
    """Settings of the tab: an empty seed is a random one."""

    seed: int | None = changed(SmallDevice, "seed")


@dataclass(frozen=True)
class Resampling:
    """A picture that is made larger without a model.

    Attributes:
        image: The picture.
        factor: How many times larger each side becomes.
        folder: Where it goes.
        language: The visitor's.
    """

    image: Image.Image
    factor: float
    folder: str
    language: str = "en"
    seed: int = 0

    def do(self, desk: Desk) -> None:
        """Resample, save and show."""
        size = tuple(max(1, round(side * self.factor)) for side in self.image.size)
        larger = np.asarray(self.image.resize(size, Image.Resampling.LANCZOS))
        path, _ = save_numbered(larger, f"{self.folder}/{FOLDER}", PATTERN, synthetic=False)
        desk.took(path)


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    fields = fields_for(studio, TabSettings, n_samples=1, prompt="")
    gr.Markdown(shown("enlarge_hint"))
    with gr.Row():
        with gr.Column():
            picture = picture_field(NAME)
            method = gr.Dropdown(
                [(shown(each), each) for each in METHODS],
                value=METHODS[0],
                label=shown("method"),
                filterable=False,
                elem_id=f"{NAME}-method",
            )
            form = Form(studio, NAME, TabSettings, fields, first=("factor",), size=False)
        with gr.Column():
            panel = Panel(studio, NAME, speaker=form.speaker, verb="enlarge_it")

    def read(values: Sequence[Any], language: str) -> Job:
        given, how, *held = values
        settings, image = form.read(held), picture_of(given)
        most = SIDES * studio.queue.limits.side
        if max(image.size) * settings.factor > most:
            raise UserError(
                f"--factor {settings.factor:g} of a picture of {image.width}x{image.height} pixels "
                f"was given; expected a result of at most {most} pixels a side; give less"
            )
        if how == "by_lanczos":
            return Resampling(image, settings.factor, form.outdir, language)
        return Drawing(settings, language, image)

    panel.connect([picture, method, *form.inputs], read, form)
    return Tab(NAME, {"picture": picture, "recipe": form.by_name}, panel.wire)

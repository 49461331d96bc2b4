"""The tab that makes pictures larger: by the model in tiles, a network, or resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
from ldm.pipelines.adapter_files import on_shelf
from ldm.pipelines.networks import UPSCALERS
from ldm.pipelines.progress import Progress
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
    seed_mode: str = changed(SmallDevice, "seed_mode")


@dataclass(frozen=True)
class Enlarging:
    """A picture that is made larger without a diffusion model.

    Attributes:
        image: The picture.
        factor: How many times larger each side becomes.
        folder: Where it goes.
        network: The file of a network that does it; None is by resampling.
        language: The visitor's.
    """

    image: Image.Image
    factor: float
    folder: str
    network: Path | None = None
    language: str = "en"
    seed: int = 0

    def do(self, desk: Desk) -> None:
        """Enlarge, save and show."""
        larger = self._by_lanczos() if self.network is None else self._by_network(desk)
        pixels = np.asarray(larger.convert("RGB"))
        path, _ = save_numbered(pixels, f"{self.folder}/{FOLDER}", PATTERN, synthetic=False)
        desk.took(path)

    def _by_lanczos(self) -> Image.Image:
        size = (max(1, round(side * self.factor)) for side in self.image.size)
        return self.image.resize(tuple(size), Image.Resampling.LANCZOS)

    def _by_network(self, desk: Desk) -> Image.Image:
        from ldm.upscalers.enlarge import TileProgress, upscale
        from ldm.upscalers.upscaler import kept_upscaler

        def observe(tiles: TileProgress) -> None:
            desk.observe(Progress(tiles.done, tiles.total, 0, 1))

        upscaler = kept_upscaler(self.network, desk.pipeline.device)
        return upscale(self.image, upscaler, factor=self.factor, observer=observe)


def networks() -> dict[str, Path]:
    """Return the networks of models/upscalers by name."""
    return {path.stem: path for path in on_shelf(UPSCALERS)}


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    fields = fields_for(studio, TabSettings, n_samples=1, prompt="")
    gr.Markdown(shown("enlarge_hint"))
    with gr.Row():
        with gr.Column():
            picture = picture_field(NAME)
            method = gr.Dropdown(
                [*((shown(each), each) for each in METHODS), *networks()],
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
        if how == METHODS[0]:
            return Drawing(settings, language, image)
        found = networks()
        if how not in (METHODS[1], *found):
            raise UserError("there is no such way to enlarge; expected one of the list; choose one")
        return Enlarging(image, settings.factor, form.outdir, found.get(how), language)

    panel.connect([picture, method, *form.inputs], read, form)
    return Tab(NAME, {"picture": picture, "recipe": form.by_name}, panel.wire)

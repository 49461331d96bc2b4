"""The tab that makes pictures larger: by the model in tiles, a network, or resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from apps.studio.form import Form, fields_for
from apps.studio.panel import Panel
from apps.studio.pictures import file_of, picture_field, picture_of
from apps.studio.state import Studio, Tab
from apps.studio.words import shown
from ldm.errors import UserError
from ldm.images.carried import Carried
from ldm.images.io import upright_eight_bit
from ldm.images.metadata import parse_parameters
from ldm.pipelines.adapter_files import on_shelf
from ldm.pipelines.networks import UPSCALERS
from ldm.pipelines.progress import Progress
from ldm.programs.upscaling import save_enlarged
from ldm.settings.low_memory import ForkHabits, SmallDevice
from ldm.settings.option import changed
from ldm.settings.upscale_tile import TileUpscaleSettings
from optimizedSD.web.drawing import Drawing
from optimizedSD.web.pictures import OPAQUE, opened
from optimizedSD.web.worker import Desk, Job

if TYPE_CHECKING:
    from ldm.pipelines.progress import Picture

NAME = "enlarge"
METHODS = ("by_tiles", "by_lanczos")
SIDES = 4  # times the largest side that is drawn at once: only tiles of it are
LONGEST_SEED = 19  # digits
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
        image: The picture as its file has it.
        settings: Of the tab: how many times larger each side becomes, and where it goes.
        network: The file of a network that does it; None is by resampling.
        language: The visitor's.
    """

    image: Image.Image
    settings: TileUpscaleSettings
    network: Path | None = None
    language: str = "en"

    @property
    def carried(self) -> Carried:
        """What the picture's file says."""
        return Carried.of(self.image)

    @property
    def seed(self) -> int:
        """The picture's own; 0 where its file says none."""
        return seed_in(self.carried.parameters)

    def do(self, desk: Desk) -> None:
        """Enlarge, save and show."""
        from ldm.pipelines.postprocess import Watermark, telling

        own, carried = upright_eight_bit(self.image), self.carried
        larger = self._by_lanczos(own) if self.network is None else self._by_network(own, desk)
        mark = None
        if carried.synthetic:  # its watermark, if it has one, is lost on the way
            mark = telling(Watermark.of(self.settings.watermark), desk.observe)
        name = "Lanczos" if self.network is None else self.network.stem
        how = {"by": larger.width / own.width, "upscaler": name}
        place = Path(self.settings.outdir, FOLDER, PATTERN)
        path, recipe = save_enlarged(larger, carried, how, mark, place)
        desk.took(path, recipe, self.seed)

    def _by_lanczos(self, own: Image.Image) -> Image.Image:
        size = (max(1, round(side * self.settings.factor)) for side in own.size)
        colours = own.convert("RGBA" if own.has_transparency_data else "RGB")
        return colours.resize(tuple(size), Image.Resampling.LANCZOS)

    def _by_network(self, own: Image.Image, desk: Desk) -> Image.Image:
        from ldm.pipelines.cancelling import Cancel
        from ldm.pipelines.enlarging import enlarge_to
        from ldm.upscalers.enlarge import TileProgress, enlarged_size
        from ldm.upscalers.upscaler import kept_upscaler

        def observe(tiles: TileProgress) -> None:
            desk.observe(Progress(tiles.done, tiles.total, 0, 1))

        upscaler = kept_upscaler(self.network, desk.pipeline.device)
        size = enlarged_size(own.size, self.settings.factor)
        return enlarge_to(own, upscaler, size, Cancel(desk.stop), observe)


@dataclass(frozen=True)
class Tiled(Drawing):
    """A picture that the model draws anew at a larger size.

    Attributes:
        opacity: Of the picture (L), where it is not opaque; the larger one gets it, by Lanczos.
    """

    opacity: Image.Image | None = None

    def finished(self, picture: Picture) -> Picture:
        """Return a drawn picture as transparent as the one that it was made from."""
        if self.opacity is None or picture.flagged:
            return picture
        size = picture.pixels.shape[1::-1]
        larger = self.opacity.resize(size, Image.Resampling.LANCZOS)
        return replace(picture, opacity=np.asarray(larger))


def opacity_of(image: Image.Image) -> Image.Image | None:
    """Return where a picture is not opaque (L); None if it is all over."""
    alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema()[0] == OPAQUE else alpha


def seed_in(recipe: str | None) -> int:
    """Return the seed that a recipe says; 0 if it says none."""
    seed = parse_parameters(recipe)[2].get("Seed", "") if recipe else ""
    return int(seed) if seed.isascii() and seed.isdigit() and len(seed) <= LONGEST_SEED else 0


def networks() -> dict[str, Path]:
    """Return the networks of models/upscalers by name."""
    return {path.stem: path for path in on_shelf(UPSCALERS)}


def build(studio: Studio) -> Tab:
    """Lay the tab out; see ``Tab``."""
    fields = fields_for(studio, TabSettings, n_samples=1, prompt="")
    gr.Markdown(shown("enlarge_hint"))
    with gr.Row():
        with gr.Column():
            picture = picture_field(studio, NAME)
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
            return Tiled(settings, language, image, opacity=opacity_of(opened(given)))
        found = networks()
        if how not in (METHODS[1], *found):
            raise UserError("there is no such way to enlarge; expected one of the list; choose one")
        return Enlarging(file_of(given), settings, found.get(how), language)

    panel.connect([picture, method, *form.inputs], read, form)
    return Tab(NAME, {"picture": picture, "recipe": form.by_name}, panel.wire)

"""The program that sweeps settings: a picture for each combination, a sheet with labels, a table.

samples/00000.png ...   the pictures, as they are drawn
sheet-0000.png          all of them, with the settings beside them
sheet-0000.csv          a row for each picture: its file, and what it was drawn with
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ldm.errors import UserError
from ldm.programs.drawing import DrawingProgram
from ldm.settings.generation import GenerationSettings, Img2ImgSettings, Txt2ImgSettings
from ldm.settings.hires import HIRES
from ldm.settings.language import as_typed
from ldm.settings.sweep import OWN, SweepSettings

if TYPE_CHECKING:  # these import NumPy, Pillow and torch, which --help can do without
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Picture
    from ldm.pipelines.request import Request
    from ldm.sweeps.drawing import Asked
    from ldm.sweeps.plan import Sweep
    from ldm.sweeps.results import Results


class SweepProgram(DrawingProgram):
    """Draws every combination of settings.

    Args:
        description: First lines of ``--help``.

    Attributes:
        sweep: What varies, once ``prepare`` has run.
        results: The sheet, unless there is ``--skip_grid``, and the table.
    """

    sweep: Sweep
    results: Results
    asked: list[Asked]

    def __init__(self, description: str) -> None:
        super().__init__(SweepSettings, description)

    def prepare(self, given: dict[str, Any]) -> None:
        """Work out the request of every combination, and check the output folder."""
        from ldm.sweeps.axes import read_axis
        from ldm.sweeps.drawing import requests_of
        from ldm.sweeps.plan import plan_sweep

        own = SweepSettings(**given)
        own.validate()
        _refuse_what_is_not_swept(own)
        drawn = _schema_of(own)
        if drawn is Img2ImgSettings and (twice := given.keys() & HIRES):
            raise UserError(
                f"--{min(twice)} was given with a picture to start from; expected it of pictures "
                "that are drawn from text alone; leave it out"
            )
        axes = [None if text is None else read_axis(text, drawn) for text in own.axes]
        # A recorded picture keeps its mode, or it would be another one.
        ours = {"outdir", "n_iter", "n_samples"} | (
            {"seed_mode"} if own.from_image is None else set()
        )
        values = {k: v for k, v in given.items() if k not in OWN}
        values |= {name: getattr(own, name) for name in ours}
        if drawn is not Img2ImgSettings:
            values.pop("strength", None)
        self._prepare_base(drawn, values)
        self.sweep = plan_sweep(_base(self.request, given), axes)
        self.asked = requests_of(self.sweep, self.request.choice)
        self.results = self._results(own.label_size)
        self.together = own.together
        self.wants_grid = False  # the sheet is in its place

    def _prepare_base(self, drawn: type[GenerationSettings], values: dict[str, Any]) -> None:
        self.schema, schema = drawn, self.schema
        try:
            super().prepare(values)
        finally:
            self.schema = schema

    def _results(self, letters: int | None) -> Results:
        from ldm.sweeps.results import Results

        with_sheet = not self.settings.skip_grid
        made = Results(self.sweep, self.asked, self.columns, letters, with_sheet=with_sheet)
        for text in made.notices:
            self.console.warn(text)
        return made

    def pictures(self) -> Iterator[Picture]:
        """Load the models and yield the pictures, in the order in which they are drawn."""
        from ldm.sweeps.drawing import draw_sweep

        drawn = draw_sweep(
            self.asked, self._load, observer=self.console.observe, together=self.together
        )
        with closing(drawn):
            for cell, pictures in drawn:
                for picture in pictures:
                    yield picture  # which is written, and then has a name
                    file = "" if self.settings.skip_save else str(self.output.saved[-1])
                    self.results.note(cell, picture, file)
                self.results.show(cell, pictures)

    def _load(self, request: Request) -> Pipeline:
        """Load a request's model, as a program that draws this request alone does."""
        self.request, self.settings = request, request.settings
        pipeline = self.load()
        if notice := request.model_notice():
            self.console.warn(notice)
        self.announce(pipeline)
        return pipeline

    def announce(self, pipeline: Pipeline) -> None:
        """Say what is drawn, and with what."""
        count = sum(each.request.choice is self.request.choice for each in self.asked)
        several = "s" * (len(self.asked) > 1)
        self.console.say(
            f"{' x '.join(map(str, self._sides()))} combination{several}, {count} with "
            f"{pipeline.choice.ckpt_path} on {pipeline.device}."
        )

    def _sides(self) -> Sequence[int]:
        return [len(axis) for axis in self.sweep.axes if axis is not None]

    def finish(self) -> None:
        """Write the sheet and the table, and say what was written."""
        kind, mark = self.settings.format, self.settings.watermark
        self.output.grids += self.results.write(self.output.folder, kind, mark)
        super().finish()


def _refuse_what_is_not_swept(own: SweepSettings) -> None:
    if own.from_file is not None:
        raise UserError(
            f"--from-file {own.from_file} was given; expected one prompt, parts of which vary; "
            'give --prompt, and --x "prompt: TEXT, OTHER TEXT"'
        )
    if own.hint_only:
        raise UserError(
            "--hint_only was given; a sweep draws pictures; expected it without; look at the hints "
            "with scripts/txt2img.py --hint_only first"
        )


def _schema_of(own: SweepSettings) -> type[GenerationSettings]:
    """Return the settings of each picture: image-to-image's where it starts from one."""
    if own.init_img is not None:
        return Img2ImgSettings
    if own.from_image is not None:
        from ldm.images.recipes import read_recipe
        from ldm.pipelines.made_by import is_from_picture

        recipe = read_recipe(own.from_image)
        if recipe is not None and is_from_picture(recipe.entries):
            return Img2ImgSettings
    return Txt2ImgSettings


def _base(request: Request, given: dict[str, Any]) -> GenerationSettings:
    """Return what all combinations have in common, before it is fitted to a model.

    Prompts are as they were typed: a word that is searched need not be in the translation.
    """
    settings = request.settings
    prompts = {
        name: as_typed(getattr(settings, name), settings.originals)
        for name in ("prompt", "negative_prompt")
    }
    sides = () if request.recorded is not None else ("H", "W")
    open_again = {
        name: None for name in (*sides, "C", "f") if name not in given and hasattr(settings, name)
    }
    notes = {"originals": (), "on_language": (), "template": "", "negative_template": ""}
    return replace(settings, **prompts, **open_again, **notes)

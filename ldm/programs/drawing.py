"""A command-line run from start to finish, for every program that generates pictures.

    arguments -> request (settings, model, init image) -> torch -> model loaded -> pictures saved

Everything that can be checked without torch is reported before torch is imported.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import closing
from math import prod
from typing import TYPE_CHECKING, Any

from ldm.errors import UserError
from ldm.processor import Ticks
from ldm.programs.console import Console, exit_codes
from ldm.programs.start import beginning, read_flags
from ldm.settings.generation import GenerationSettings

if TYPE_CHECKING:  # these import NumPy, Pillow and OmegaConf, which --help can do without
    import torch

    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Picture
    from ldm.pipelines.request import Request
    from ldm.programs.output import OutputFolder
    from ldm.programs.run_log import RunLog


LARGE = 512**2
"""Pixels of a picture beyond which a program looks all the time whether it is to end."""


class PictureProgram(ABC):
    """One run of a program that draws pictures and writes each as it is done, then a grid.

    Args:
        schema: The settings class whose options are the program's flags.
        description: First lines of ``--help``.

    Attributes:
        console: Shows messages and progress.
        output: Where pictures go; None until that is known.
        settings: Complete and checked, once ``prepare`` has run.
        wants_grid: Whether the run ends with a grid.
        columns: Pictures per row of the grid.
        began: What the processor's cores had done when the run began.
    """

    settings: GenerationSettings
    wants_grid: bool
    columns: int

    def __init__(self, schema: type[GenerationSettings], description: str) -> None:
        self.schema, self.description = schema, description
        self.console = Console(schema.program, sys.stdout, sys.stderr)
        self.output: OutputFolder | None = None
        self.began: Ticks | None = None

    @abstractmethod
    def prepare(self, given: dict[str, Any]) -> None:
        """Set ``settings``, ``wants_grid``, ``columns`` and ``output``.

        Args:
            given: Settings given explicitly, by field name.

        Raises:
            UserError: what is wrong, reported before torch is imported where possible.
        """

    @abstractmethod
    def pictures(self) -> Iterator[Picture]:
        """Load the model and return the pictures, which are drawn one batch after another."""

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the program and return its exit code: 0, 2 for a user's error, 130 for Ctrl-C.

        Args:
            argv: Arguments without the program's name; None takes ``sys.argv``.
        """
        with exit_codes(self.console, self.left_behind) as ending:
            self.began = Ticks.now()
            with beginning():
                self.prepare(read_flags(self.schema, self.description, argv))
                drawn = self.pictures()
            save, keep = not self.settings.skip_save, self.wants_grid
            # Closed even if a picture cannot be written: that frees the device at once.
            with closing(drawn) as pictures:
                for picture in pictures:
                    self.output.take(picture, save=save, keep=keep)
            self.finish()
        return ending.code

    def finish(self) -> None:
        """Write the grid, and say what was written."""
        if self.wants_grid:
            from ldm.pipelines.postprocess import Watermark

            mark = Watermark.of(self.settings.watermark, self.settings.format)
            self.output.save_grids(self.columns, mark)
        self.console.close()
        written = self.output.summary()
        self.console.say(f"Written: {written}" if written else "Nothing was written, as asked.")

    def left_behind(self) -> str:
        """Say what an interrupted run leaves behind."""
        written = self.output.summary() if self.output is not None else ""
        return f"finished pictures are kept: {written}" if written else "nothing was written"


class DrawingProgram(PictureProgram):
    """Text-to-image, image-to-image and similar programs, by ``Pipeline``.

    Args:
        schema: The settings class whose options are the program's flags.
        description: First lines of ``--help``.
        by_prompt: Whether files are in a folder for each prompt, as ``PromptNaming`` has them.
        log: A table of runs; it gets a row with the settings.

    Attributes:
        request: What is wanted, once ``prepare`` has run.
    """

    request: Request

    def __init__(
        self,
        schema: type[GenerationSettings],
        description: str,
        *,
        by_prompt: bool = False,
        log: RunLog | None = None,
    ) -> None:
        super().__init__(schema, description)
        self.by_prompt, self.log = by_prompt, log

    def prepare(self, given: dict[str, Any]) -> None:
        """Work out the request, and check the output folder."""
        from ldm.pipelines.request import prepare_from_flags

        self.request = request = prepare_from_flags(self.schema, given)
        self.settings = request.settings
        self.wants_grid = request.wants_grid and not request.settings.hint_only
        self.columns = self.settings.n_rows or self.settings.n_samples
        self.output = self.make_output()
        self.output.check(request.prompts)
        for text in request.notices:
            self.console.warn(text)
        if request.choice.notice:
            self.console.say(request.choice.notice)

    def make_output(self) -> OutputFolder:
        """Return where the pictures go."""
        from ldm.programs.naming import PromptNaming
        from ldm.programs.output import OutputFolder

        settings = self.settings
        naming = PromptNaming(settings.originals) if self.by_prompt else None
        return OutputFolder(settings.outdir, settings.format, naming)

    def pictures(self) -> Iterator[Picture]:
        """Load the model and return the pictures, which are drawn one batch after another."""
        if self.settings.hint_only:
            from ldm.pipelines.shown_hints import hint_pictures

            return hint_pictures(self.request)
        pipeline = self.load()
        if notice := self.request.model_notice():
            self.console.warn(notice)
        if self.log is not None:
            self._note(pipeline)
        self.announce(pipeline)
        if pipeline.device.type == "cpu" and self.request.is_long(pipeline.model):
            from ldm.pipelines.precision import notice_on_others

            if notice := notice_on_others(self.began):
                self.console.warn(notice)
        return self.draw(pipeline)

    def load(self) -> Pipeline:
        """Load the model onto the device."""
        from ldm.pipelines.pipeline import Pipeline  # imports torch: a second

        device, staging = self._device(), None
        if self.settings.low_memory:
            from ldm.pipelines.staging import Staging

            staging = Staging.of(self.settings)
        return Pipeline.load(
            self.request.choice,
            device=str(device),
            use_ema=self.settings.use_ema,
            staging=staging,
            observer=self.console.observe,
        )

    def _device(self) -> torch.device:
        """Return the device that is asked for, or ``auto`` if a recorded picture's is missing."""
        from ldm.pipelines.pipeline import resolve_device

        name = self.settings.device
        try:
            return resolve_device(name)
        except UserError as error:
            if not self.request.device_is_recorded:
                raise
            self.console.warn(f"the picture was made on {name} and will not be the same: {error}")
            return resolve_device("auto")

    def _note(self, pipeline: Pipeline) -> None:
        """Add the run to the table; if that fails, only warn: the pictures matter more."""
        from ldm.programs.run_log import row_of

        used = {"config": pipeline.choice.config_path, "ckpt": pipeline.choice.ckpt_path}
        try:
            self.log.add(row_of(self.settings, device=pipeline.device, **used))
        except UserError as error:
            self.console.warn(str(error))

    def announce(self, pipeline: Pipeline) -> None:
        """Say what pictures will be drawn with."""
        settings = self.settings
        self.console.say(
            f"Seed {settings.seed} ({settings.seed_mode}), {settings.sampler} in "
            f"{settings.ddim_steps} steps, {pipeline.choice.ckpt_path} on {pipeline.device}."
            f"{self._second_walk()}{self._suited()}"
        )

    def _second_walk(self) -> str:
        """Say how pictures are enlarged and redrawn; empty if they are drawn once."""
        # Pictures of a folder have each a size of its own, and are drawn once.
        settings = self.settings
        if settings.takes_folder or getattr(settings, "hires", None) is None:
            return ""
        height, width = self.request.final_size
        larger = self.request.final_size != self.request.size
        how = f"enlarged to {width}x{height} ({settings.hires_upscaler})" if larger else "no larger"
        steps = settings.hires_walk_steps
        return f" Then {how} and redrawn in {steps} step{'s' * (steps != 1)}."

    def _suited(self) -> str:
        """Say what the model's YAML chose, as no flag did; empty if nothing."""
        from ldm.settings.suiting import in_words

        own = self.request.suited
        return f" As suits this model: {in_words(own)}." if own else ""

    def draw(self, pipeline: Pipeline) -> Iterator[Picture]:
        """Return the pictures of the request."""
        watched = {}
        if prod(self.request.size) > LARGE:  # one operation of those may take half a minute
            from ldm.pipelines.cancelling import Cancel

            watched = {"cancel": Cancel()}  # Ctrl-C acts between the parts of what takes long
        return pipeline.generate(self.request, observer=self.console.observe, **watched)

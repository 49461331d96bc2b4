"""The course of a command-line run, for every program that generates pictures.

    arguments -> job (settings, model, inputs) -> torch -> model loaded -> pictures saved

Everything that can be told without torch is told before torch is imported.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ldm.errors import UserError
from ldm.programs.console import Console, run_guarded
from ldm.settings.command_line import parse
from ldm.settings.generation import GenerationSettings

if TYPE_CHECKING:  # these import NumPy, Pillow and OmegaConf, which --help can do without
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.request import Job
    from ldm.programs.naming import Naming
    from ldm.programs.output import OutputFolder
    from ldm.programs.run_log import RunLog


def run_program(
    schema: type[GenerationSettings],
    description: str,
    argv: Sequence[str] | None = None,
    *,
    naming: Naming | None = None,
    log: RunLog | None = None,
) -> int:
    """Run a program and return its exit code: 0, 2 for a user's error, 130 for Ctrl-C.

    Args:
        schema: The settings class whose options are the program's flags.
        description: First lines of ``--help``.
        argv: Arguments without the program's name; None takes ``sys.argv``.
        naming: What files are called; None is as in ``OutputFolder``.
        log: A table that gets a row of settings.
    """
    return DrawingProgram(schema, naming, log).main(description, argv)


class PictureProgram(ABC):
    """One run of a program: what it shows and which pictures it has written so far.

    Args:
        schema: The settings class whose options are the program's flags.
    """

    def __init__(self, schema: type) -> None:
        self.schema = schema
        self.console = Console(schema.program, sys.stdout, sys.stderr)
        self.output: OutputFolder | None = None

    @abstractmethod
    def run(self, given: dict[str, Any]) -> None:
        """Draw what the command line asks for; sets ``output`` before anything is written.

        Args:
            given: Settings given explicitly, by field name.

        Raises:
            UserError: what is wrong, told before torch is imported where that can be.
        """

    def main(self, description: str, argv: Sequence[str] | None = None) -> int:
        """Run the program and return its exit code; see ``run_program``."""

        def act() -> None:
            self.run(parse(self.schema, description, argv))
            self.console.close()
            written = self.output.summary()
            self.console.say(f"Written: {written}" if written else "Nothing was written, as asked.")

        return run_guarded(self.console, act, self.left_behind)

    def left_behind(self) -> str:
        """Say what an interrupted run leaves behind."""
        written = self.output.summary() if self.output is not None else ""
        return f"finished pictures are kept: {written}" if written else "nothing was written"


class DrawingProgram(PictureProgram):
    """Text-to-image, image-to-image and their like.

    Args:
        schema: The settings class whose options are the program's flags.
        naming: What files are called; None is as in ``OutputFolder``.
        log: A table that gets a row of settings.
    """

    def __init__(
        self,
        schema: type[GenerationSettings],
        naming: Naming | None = None,
        log: RunLog | None = None,
    ) -> None:
        super().__init__(schema)
        self.naming, self.log = naming, log

    def run(self, given: dict[str, Any]) -> None:
        """Draw what the command line asks for."""
        from ldm.pipelines.request import prepare

        job = prepare(self.schema, given)
        self.output = self.make_output(job)
        self.output.check(job.prompts)
        for text in job.notices:
            self.console.warn(text)
        if job.choice.notice:
            self.console.say(job.choice.notice)
        pipeline = self.load(job)
        self._note(job, pipeline)
        self.draw(job, pipeline)

    def make_output(self, job: Job) -> OutputFolder:
        """Return where the pictures go."""
        from ldm.programs.output import OutputFolder

        return OutputFolder(job.settings.outdir, job.settings.format, self.naming)

    def load(self, job: Job) -> Pipeline:
        """Load the model onto the device."""
        from ldm.pipelines.pipeline import Pipeline, resolve_device  # imports torch: a second
        from ldm.pipelines.staging import Staging

        name = job.settings.device
        try:
            device = resolve_device(name)
        except UserError as error:
            if not job.device_is_recorded:
                raise
            self.console.warn(f"the picture was made on {name} and will not be the same: {error}")
            device = resolve_device("auto")
        pipeline = Pipeline.load(
            job.choice,
            device=str(device),
            use_ema=job.settings.use_ema,
            staging=Staging.of(job.settings),
            observer=self.console.observe,
        )
        if notice := job.model_notice():
            self.console.warn(notice)
        return pipeline

    def _note(self, job: Job, pipeline: Pipeline) -> None:
        """Add the run to the table; without one it goes on, for its pictures are what counts."""
        from ldm.programs.run_log import row_of

        if self.log is None:
            return
        used = {"config": job.choice.config_path, "ckpt": job.choice.ckpt_path}
        try:
            self.log.add(row_of(job.settings, device=pipeline.device, **used))
        except UserError as error:
            self.console.warn(str(error))

    def announce(self, job: Job, pipeline: Pipeline) -> None:
        """Say what pictures will be drawn with."""
        settings = job.settings
        self.console.say(
            f"Seed {settings.seed} ({settings.seed_mode}), {settings.sampler} in "
            f"{settings.ddim_steps} steps, {pipeline.choice.ckpt_path} on {pipeline.device}."
        )

    def draw(self, job: Job, pipeline: Pipeline) -> None:
        """Draw the pictures and write each as it is done, then the grid."""
        from ldm.pipelines.postprocess import Watermark

        settings = job.settings
        self.announce(job, pipeline)
        pictures = pipeline.generate(
            settings,
            prompts=job.prompts,
            image=job.image,
            place=job.place,
            observer=self.console.observe,
        )
        with closing(pictures):  # also where a picture cannot be written: free the device at once
            for picture in pictures:
                self.output.take(picture, save=not settings.skip_save, keep=job.wants_grid)
        if job.wants_grid:
            self.output.save_grids(
                settings.n_rows or settings.n_samples, Watermark(settings.format)
            )

"""The program that repaints: one picture with its mask, or a folder of them, with text or without.

    arguments -> model (what kind is it?) -> every picture and mask checked -> torch -> drawn

Does not import torch itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from ldm.programs.drawing import DrawingProgram
from ldm.settings.inpaint import InpaintProgramSettings

if TYPE_CHECKING:  # these import NumPy, Pillow and OmegaConf, which --help can do without
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Notice, Picture, Progress
    from ldm.pipelines.request import Request
    from ldm.programs.console import Console
    from ldm.programs.output import OutputFolder
    from ldm.programs.pairs import Pair

HELD = 2**26
"""Pixels of a folder's pictures that stay in memory from the check until they are drawn."""


class InpaintProgram(DrawingProgram):
    """Repaints one picture, or the pairs of a folder one after another.

    Args:
        description: First lines of ``--help``.
    """

    def __init__(self, description: str) -> None:
        super().__init__(InpaintProgramSettings, description)
        self._pairs: list[Pair] = []
        self._requests: dict[Pair, Request] = {}

    def make_output(self) -> OutputFolder:
        """Return where pictures go; for a folder, check every pair first."""
        choice, settings = self.request.choice, self.settings
        self.console.say(choice.kind.sentence(choice.inputs))
        if settings.format == "jpg":
            self.console.warn(
                "--format jpg changes every pixel a little, even where the mask keeps them"
            )
        if not settings.takes_folder:
            return super().make_output()
        from ldm.programs.pairs import PairedOutput, find_pairs

        self._pairs = find_pairs(settings.indir)
        self._look_at_pairs()
        return PairedOutput(settings.outdir, settings.format, self._pairs, self.request.pictures)

    def _look_at_pairs(self) -> None:
        """Check that every pair can be drawn; as many as fit stay in memory for their turn.

        Raises:
            UserError: a file is not a picture, or a mask does not fit or marks nothing.
        """
        held = 0
        for pair in self._pairs:
            request = self._prepare_pair(pair)
            held += prod(request.shown_size)
            if held <= HELD:
                self._requests[pair] = request

    def _prepare_pair(self, pair: Pair) -> Request:
        from ldm.pipelines.request import prepare

        settings = self.settings.of(pair.picture, pair.mask)
        return prepare(settings, self.request.choice, prompts=self.request.typed)

    def draw(self, pipeline: Pipeline) -> Iterator[Picture]:
        """Return the pictures of the request, or those of the folder pair by pair."""
        return self._draw_pairs(pipeline) if self._pairs else super().draw(pipeline)

    def _draw_pairs(self, pipeline: Pipeline) -> Iterator[Picture]:
        course = _Course(self.console, len(self._pairs))
        for number, pair in enumerate(self._pairs):
            course.begun, self.output.pair = number, pair
            request = self._requests.pop(pair, None) or self._prepare_pair(pair)
            yield from pipeline.generate(request, observer=course.observe)


@dataclass
class _Course:
    """Shows one progress bar, and each notice once, over the runs of a folder.

    Attributes:
        console: Where they are shown.
        total: How many runs there are, all of the same length.
        begun: How many are done.
    """

    console: Console
    total: int
    begun: int = 0
    _told: set[str] = field(default_factory=set)

    def observe(self, event: Notice | Progress) -> None:
        """Show one event of the current run."""
        from ldm.pipelines.progress import Progress

        if isinstance(event, Progress):
            event = Progress(
                self.begun * event.total + event.done,
                self.total * event.total,
                self.begun * event.total_pictures + event.pictures,
                self.total * event.total_pictures,
            )
        elif event.text in self._told:
            return
        else:
            self._told.add(event.text)
        self.console.observe(event)

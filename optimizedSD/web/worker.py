"""One model, drawing for the visitors of a page: one run at a time, each with its own stop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ldm.errors import UserError
from ldm.pipelines.progress import Notice, Observer, Progress
from ldm.programs.console import ConsoleLog
from ldm.programs.naming import PromptNaming
from ldm.programs.output import OutputFolder
from ldm.settings.generation import GenerationSettings
from optimizedSD.web.background import Background, Report
from optimizedSD.web.state import View

if TYPE_CHECKING:  # the pipeline imports torch, and a page is laid out without a model
    from PIL import Image

    from ldm.pipelines.masks import Mask
    from ldm.pipelines.pipeline import Pipeline


@dataclass(frozen=True)
class Request:
    """What a visitor asks for.

    Attributes:
        settings: What to draw, and the folder for it.
        image: What to start from, if anything.
        mask: What of it to draw anew, if not all.
    """

    settings: GenerationSettings
    image: Image.Image | None = None
    mask: Mask | None = None


@dataclass
class Worker:
    """Draws what visitors ask for.

    Attributes:
        pipeline: The loaded model.
        note: Takes down what was asked; may raise UserError.
    """

    pipeline: Pipeline
    note: Callable[[GenerationSettings], None]
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)
    _stops: dict[str, threading.Event] = field(default_factory=dict)

    def announce(self, visitor: str) -> None:
        """Know of a run that is going to be asked for, so that it can be stopped while it waits."""
        self._stops[visitor] = threading.Event()

    def stop(self, visitor: str) -> None:
        """Stop the visitor's run, if there is one, after the step that it is taking."""
        if visitor in self._stops:
            self._stops[visitor].set()

    def draw(self, visitor: str, request: Callable[[], Request]) -> Iterator[View]:
        """Draw, yielding what there is to show; closing the iterator stops the run.

        Args:
            visitor: Who asks; ``announce`` and ``stop`` name the same.
            request: Says what for.

        Raises:
            UserError: as ``request`` and ``Pipeline.generate``, or the pictures cannot be saved.
        """
        stop = self._stops.setdefault(visitor, threading.Event())
        try:
            wanted = request()
            view = View(wanted.settings.seed)
            run = Background[View](lambda report: self._work(wanted, view, report), stop)
            for view in run.views():
                yield view
            yield view.ended(stopped=run.stopped)
        finally:
            self._stops.pop(visitor, None)

    def _work(self, wanted: Request, view: View, report: Report) -> None:
        """Draw, save and report; in a thread of its own."""
        settings = wanted.settings
        output = OutputFolder(settings.outdir, settings.format, PromptNaming())
        output.check([settings.prompt])

        def observe(event: Notice | Progress) -> None:
            nonlocal view
            view = view.after(event)
            report(view)

        report(view)
        with self._one_at_a_time, ConsoleLog(_Warnings(observe)):
            report(view)  # stopped while it waited?
            self._take_down(settings, observe)
            drawn = self.pipeline.generate(
                settings, image=wanted.image, mask=wanted.mask, observer=observe
            )
            with contextlib.closing(drawn):
                for picture in drawn:
                    output.take(picture)
                    view = view.with_picture(picture, output.saved[-1])
                    report(view)

    def _take_down(self, settings: GenerationSettings, observe: Observer) -> None:
        """Add the run to the table; without one it goes on, for its pictures are what counts."""
        try:
            self.note(settings)
        except UserError as error:
            observe(Notice(str(error), warning=True))


@dataclass
class _Warnings:
    """Stands in for the console that the library's logged warnings go to."""

    observe: Observer

    def warn(self, text: str) -> None:
        self.observe(Notice(text, warning=True))

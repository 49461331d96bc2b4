"""One model for all visitors: jobs wait in one line, and each is done by a thread of its own.

read() -> Job  ->  a place in the line  ->  job.do(desk)  ->  RunState, RunState, ...
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from ldm.errors import UserError
from ldm.pipelines.progress import Notice, Progress
from ldm.programs.naming import PromptNaming
from ldm.programs.output import OutputFolder
from ldm.settings.generation import GenerationSettings
from optimizedSD.web.drawing import draw
from optimizedSD.web.line import Place
from optimizedSD.web.state import RunState, SavedPicture
from optimizedSD.web.worker import Report, Stopped, Worker, stopped_by_cancel, warnings_here

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from ldm.pipelines.masks import Mask
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Picture
    from ldm.pipelines.request import Request
    from optimizedSD.web.word_maps import Looks, WordMaps


class Job(Protocol):
    """What a visitor wants done.

    Attributes:
        seed: The one to report; 0 where there is none.
        language: The visitor's.
    """

    seed: int
    language: str

    def do(self, desk: Desk) -> None:
        """Do it, when it is its turn; may raise UserError."""


@dataclass
class Desk:
    """What a job has while it is its turn.

    Attributes:
        queue: Its pipeline is the model.
        state: How far the job is.
        tell: Shows a state to the visitor; raises ``Stopped`` once the job is to stop.
        stop: Is set once the job is to stop.
    """

    queue: Queue
    state: RunState
    tell: Report
    stop: threading.Event

    @property
    def pipeline(self) -> Pipeline:
        """The model."""
        return self.queue.pipeline

    def observe(self, event: Notice | Progress) -> None:
        """Take an event of a run; raises ``Stopped``."""
        self.show(self.state.after(event))
        if self.state.seconds > self.queue.limits.seconds:
            raise Stopped("--max_seconds")

    def show(self, state: RunState) -> None:
        """Set and show a state; raises ``Stopped``."""
        self.state = state
        self.tell(state)

    def take(self, picture: Picture, path: Path, looks: Looks | None = None) -> None:
        """Show a picture that was saved; raises ``Stopped``."""
        self.show(self.state.with_picture(picture, path, looks))

    def took(self, path: Path, parameters: str = "", seed: int = 0) -> None:
        """Show a file that was saved, which no run drew; raises ``Stopped``."""
        place = (len(self.state.pictures), 0)
        saved = SavedPicture(path, seed, parameters, place)
        self.show(replace(self.state, pictures=(*self.state.pictures, saved)))


class Queue(Worker):
    """Does what visitors want, one job at a time; see ``Worker`` for who may wait and stop."""

    def _begin(self, wanted: Any, notices: tuple[Notice, ...]) -> RunState:
        state = RunState(wanted.seed, notices=notices, language=wanted.language)
        return state.waiting(0)

    def _work(
        self, wanted: Any, state: RunState, place: Place, report: Report, stop: threading.Event
    ) -> None:
        """Wait for the model and do the job; runs in a thread of its own."""
        desk = Desk(self, state, report, stop)
        try:
            self.line.wait(place, lambda ahead: desk.show(desk.state.waiting(ahead)))
            desk.show(desk.state.begun())  # raises if the visitor stopped it while it waited
            with warnings_here(desk.observe), stopped_by_cancel():
                wanted.do(desk)
        finally:
            self.line.leave(place)


def drawn_by(desk: Desk, request: Request, **watched: Any) -> Iterator[Picture]:
    """Begin a run whose visitor sees it come, and may stop it at any time.

    Args:
        desk: The job's.
        request: What to draw, of the desk's pipeline.
        **watched: As for ``Pipeline.generate``, in place of what is shown to the visitor.

    Raises:
        UserError: There is not enough memory or time for it.
    """
    return draw(
        desk.pipeline,
        request,
        seconds=desk.queue.limits.seconds,
        stop=desk.stop,
        see=lambda preview: desk.show(desk.state.seen(preview)),
        **{"observer": desk.observe, **watched},
    )


@dataclass(frozen=True)
class Drawing:
    """A run of the model.

    Attributes:
        settings: What to draw, and the folder for it.
        language: The visitor's.
        image: The init image, if there is one.
        mask: The part of it to redraw; None is all of it.
        watcher: Sees where words look while the pictures are drawn.
    """

    settings: GenerationSettings
    language: str = "en"
    image: Image.Image | None = None
    mask: Mask | None = None
    watcher: WordMaps | None = None

    @property
    def seed(self) -> int:
        """The run's."""
        return self.settings.seed

    def do(self, desk: Desk) -> None:
        """Draw, save and show; raises UserError for what cannot be drawn or saved."""
        settings, watcher = self.settings, self.watcher
        output = OutputFolder(settings.outdir, settings.format, PromptNaming(settings.originals))
        output.check(settings.drawn_prompts)
        request = desk.pipeline.prepare(settings, image=self.image, mask=self.mask)
        drawn = drawn_by(desk, request, controller=watcher)
        self._log(desk)
        with contextlib.closing(drawn):
            for picture in map(self.finished, drawn):
                output.take(picture)
                desk.take(picture, output.saved[-1], watcher.looks(picture) if watcher else None)

    def finished(self, picture: Picture) -> Picture:
        """Return a drawn picture as it is saved."""
        return picture

    def _log(self, desk: Desk) -> None:
        """Record the run; if that fails, warn and go on, since the pictures matter more."""
        try:
            desk.queue.log_run(self.settings)
        except UserError as error:
            desk.observe(Notice(str(error), warning=True))

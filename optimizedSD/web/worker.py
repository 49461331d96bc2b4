"""One model for all visitors of a page: jobs wait in one line, and each is done by its own thread.

read() -> Job  ->  a place in the line  ->  job.do(desk)  ->  RunState, RunState, ...
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from ldm.errors import UserError
from ldm.pipelines.progress import Notice, Observer, Progress
from ldm.programs.console import ConsoleLog
from ldm.settings.generation import GenerationSettings
from optimizedSD.web.background import Background, Report, Stopped
from optimizedSD.web.limits import Limits
from optimizedSD.web.line import Line, Place
from optimizedSD.web.state import RunState, SavedPicture

if TYPE_CHECKING:  # the pipeline imports torch, and a page is laid out without a model
    from pathlib import Path

    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Picture
    from optimizedSD.web.word_maps import Looks

MOST_EXPECTED = 100  # runs that were announced and have not begun


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
        worker: Its pipeline is the model.
        state: How far the job is.
        tell: Shows a state to the visitor; raises ``Stopped`` once the job is to stop.
        stop: Is set once the job is to stop.
    """

    worker: Worker
    state: RunState
    tell: Report
    stop: threading.Event

    @property
    def pipeline(self) -> Pipeline:
        """The model."""
        return self.worker.pipeline

    @property
    def limits(self) -> Limits:
        """What a run may ask for."""
        return self.worker.limits

    def observe(self, event: Notice | Progress) -> None:
        """Take an event of a run; raises ``Stopped``."""
        state = self.state.after(event)
        self.show(state)
        if state.seconds > self.limits.seconds:
            raise Stopped("the longest that a run may take on this page")

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


@dataclass
class Worker:
    """Does what visitors want, one job at a time.

    Attributes:
        pipeline: The loaded model.
        log_run: Records a run's settings; may raise UserError.
        limits: What a run may ask for.
    """

    pipeline: Pipeline
    log_run: Callable[[GenerationSettings], None]
    limits: Limits = field(default_factory=Limits)
    line: Line = field(default_factory=lambda: Line(Limits.waiting))
    _reading: threading.Lock = field(default_factory=threading.Lock)
    _expected: dict[str, threading.Event] = field(default_factory=dict)
    _running: dict[str, threading.Event] = field(default_factory=dict)

    def limit(self, limits: Limits) -> None:
        """Set what runs may ask for; before the first one."""
        self.limits, self.line = limits, Line(limits.waiting)

    def register(self, visitor: str) -> None:
        """Register a run that the visitor is about to start: it can be stopped before it begins."""
        self._expected.pop(visitor, None)
        self._expected[visitor] = threading.Event()
        while len(self._expected) > MOST_EXPECTED:  # those that announce a run and never start it
            self._expected.pop(next(iter(self._expected)))

    def stop(self, visitor: str) -> None:
        """Stop the visitor's run, if there is one, after its current step."""
        for stop in (self._expected.get(visitor), self._running.get(visitor)):
            if stop is not None:
                stop.set()

    def draw(self, visitor: str, read: Callable[[], Job], address: str = "") -> Iterator[RunState]:
        """Draw, yielding the run's states; closing the iterator stops the run.

        Args:
            visitor: Whose run it is, by the name that ``register`` and ``stop`` are given.
            read: Returns what the visitor asks for; called once.
            address: The visitor's; each has its share of the line. Empty is the visitor's name.

        Raises:
            UserError: from ``read``, ``Line.enter`` or ``Pipeline.generate``, the visitor has a run
                already, or the pictures cannot be saved.
        """
        if visitor in self._running:
            raise UserError(
                "the last run has not ended; expected one at a time; cancel it, or wait for its end"
            )
        stop = self._running[visitor] = self._expected.pop(visitor, None) or threading.Event()
        try:
            found: list[Notice] = []
            # One after the other: large pictures take memory while they are unpacked.
            with self._reading, warnings_here(found.append):
                job = read()
            state = RunState(job.seed, notices=tuple(dict.fromkeys(found)), language=job.language)
            # Given up by the work itself: it outlives a visitor who leaves by up to one step.
            place = self.line.enter(address or visitor)
            run = Background[RunState](
                lambda report: self._work(job, place, Desk(self, state, report, stop)), stop
            )
            for state in run.reports():
                yield state
            yield state.ended(stopped=run.stopped, why=run.why)
        finally:
            self._running.pop(visitor, None)

    def close(self, patience: float) -> bool:
        """Stop every run; return whether all have ended within so many seconds."""
        for stop in list(self._running.values()):
            stop.set()
        return self.line.empties(patience)

    def _work(self, job: Job, place: Place, desk: Desk) -> None:
        """Wait for the model and do the job; runs in a thread of its own."""
        try:
            self.line.wait(place, lambda ahead: desk.show(desk.state.waiting(ahead)))
            desk.show(desk.state.begun())  # raises if the visitor stopped it while it waited
            with warnings_here(desk.observe), stopped_by_cancel():
                job.do(desk)
        finally:
            self.line.leave(place)


@dataclass
class _WarningNotices:
    """Takes the place of a console for ``ConsoleLog``: logged warnings become notices."""

    observe: Observer

    def warn(self, text: str) -> None:
        self.observe(Notice(text, warning=True))


def warnings_here(observe: Callable[[Notice], object]) -> ConsoleLog:
    """Return a log that passes on what this thread warns of; other runs are in others."""
    log, thread = ConsoleLog(_WarningNotices(observe)), threading.get_ident()
    log.addFilter(lambda record: record.thread == thread)
    return log


@contextlib.contextmanager
def stopped_by_cancel() -> Iterator[None]:
    """Let a run that was cancelled within an operation count as stopped."""
    from ldm.pipelines.cancelling import Cancelled

    try:
        yield
    except Cancelled as error:
        raise Stopped(str(error)) from error

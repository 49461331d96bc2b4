"""One model that draws for every visitor of a page: one run at a time, each with its own stop."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from ldm.errors import UserError
from ldm.pipelines.progress import Notice, Observer, Progress
from ldm.programs.console import ConsoleLog
from ldm.programs.naming import PromptNaming
from ldm.programs.output import OutputFolder
from ldm.settings.generation import GenerationSettings
from optimizedSD.web.state import RunState

if TYPE_CHECKING:  # the pipeline imports torch, and a page is laid out without a model
    from PIL import Image

    from ldm.pipelines.masks import Mask
    from ldm.pipelines.pipeline import Pipeline

Item = TypeVar("Item")
Report = Callable[[Item], None]


@dataclass(frozen=True)
class Wanted:
    """What a visitor asks for.

    Attributes:
        settings: What to draw, and the folder for it.
        image: The init image, if there is one.
        mask: The part of the init image to redraw; None is all of it.
    """

    settings: GenerationSettings
    image: Image.Image | None = None
    mask: Mask | None = None


@dataclass
class Worker:
    """Draws what visitors ask for, one run at a time.

    Attributes:
        pipeline: The loaded model.
        log_run: Records a run's settings; may raise UserError.
    """

    pipeline: Pipeline
    log_run: Callable[[GenerationSettings], None]
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)
    _stops: dict[str, threading.Event] = field(default_factory=dict)

    def register(self, visitor: str) -> None:
        """Register a run that the visitor is about to start: it can be stopped while it waits."""
        self._stops[visitor] = threading.Event()

    def stop(self, visitor: str) -> None:
        """Stop the visitor's run, if there is one, after its current step."""
        if visitor in self._stops:
            self._stops[visitor].set()

    def draw(self, visitor: str, read: Callable[[], Wanted]) -> Iterator[RunState]:
        """Draw, yielding the run's states; closing the iterator stops the run.

        Args:
            visitor: Whose run it is, by the name that ``register`` and ``stop`` are given.
            read: Returns what the visitor asks for; called once.

        Raises:
            UserError: from ``read`` or ``Pipeline.generate``, or the pictures cannot be saved.
        """
        stop = self._stops.setdefault(visitor, threading.Event())
        try:
            wanted = read()
            state = RunState(wanted.settings.seed)
            run = Background[RunState](lambda report: self._work(wanted, state, report), stop)
            for state in run.reports():
                yield state
            yield state.ended(stopped=run.stopped)
        finally:
            self._stops.pop(visitor, None)

    def _work(self, wanted: Wanted, state: RunState, report: Report) -> None:
        """Draw, save and report; runs in a thread of its own."""
        settings = wanted.settings
        output = OutputFolder(settings.outdir, settings.format, PromptNaming())
        output.check([settings.prompt])

        def observe(event: Notice | Progress) -> None:
            nonlocal state
            state = state.after(event)
            report(state)

        report(state)
        with self._one_at_a_time, ConsoleLog(_WarningNotices(observe)):
            report(state)  # raises if the visitor stopped the run while it waited
            self._log(settings, observe)
            drawn = self.pipeline.generate(
                settings, image=wanted.image, mask=wanted.mask, observer=observe
            )
            with contextlib.closing(drawn):
                for picture in drawn:
                    output.take(picture)
                    state = state.with_picture(picture, output.saved[-1])
                    report(state)

    def _log(self, settings: GenerationSettings, observe: Observer) -> None:
        """Record the run; if that fails, warn and go on, since the pictures matter more."""
        try:
            self.log_run(settings)
        except UserError as error:
            observe(Notice(str(error), warning=True))


@dataclass
class _WarningNotices:
    """Takes the place of a console for ``ConsoleLog``: logged warnings become notices."""

    observe: Observer

    def warn(self, text: str) -> None:
        self.observe(Notice(text, warning=True))


class Stopped(Exception):
    """Raised inside work that was stopped."""


class Background(Generic[Item]):
    """Runs ``work(report)`` in a thread of its own and yields what it reports.

    A run has to stay in one thread from start to end (autocast and CUDA streams belong to a
    thread), but a web server may advance a generator from a different thread at every step.

    Args:
        work: Calls ``report(item)`` as it goes; that call raises ``Stopped`` once ``stop`` is set.
        stop: Stops the work; may be set from any thread.
        pause: The least time between two yielded items, in seconds. Of those reported in between,
            only the newest is yielded.
    """

    def __init__(
        self, work: Callable[[Report], None], stop: threading.Event, pause: float = 0.1
    ) -> None:
        self._work, self._stop, self._pause = work, stop, pause
        self._has_new = threading.Event()
        self._newest: Item | None = None
        self._error: BaseException | None = None
        self._stopped = False
        # A daemon, so that Ctrl-C ends the program without waiting for the run.
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def stopped(self) -> bool:
        """Whether the work was stopped before its end."""
        return self._stopped

    def reports(self) -> Iterator[Item]:
        """Do the work and yield its reports; closing this iterator stops it.

        Raises:
            BaseException: whatever the work raised, except ``Stopped``.
        """
        self._thread.start()
        try:
            while self._thread.is_alive():
                if self._has_new.wait(timeout=0.5):
                    yield self._take()
                    self._stop.wait(self._pause)
            self._thread.join()
            if self._has_new.is_set():
                yield self._take()
        finally:
            self._stop.set()
        if self._error is not None:
            raise self._error

    def _take(self) -> Item:
        self._has_new.clear()
        return self._newest

    def _run(self) -> None:
        try:
            self._work(self._report)
        except Stopped:
            self._stopped = True
        except BaseException as error:  # raised again in the thread that iterates
            self._error = error
        finally:
            if self._newest is not None:
                self._has_new.set()

    def _report(self, item: Item) -> None:
        self._newest = item
        self._has_new.set()
        if self._stop.is_set():
            raise Stopped

"""Work in a thread of its own, watched by who asked for it.

A run has to stay in one thread from end to end (autocast and CUDA streams belong to a thread),
while a web server gives every step of a generator to whichever of its threads is free.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

View = TypeVar("View")
Report = Callable[[View], None]


class Stopped(Exception):
    """Raised inside work that is no longer wanted."""


class Background(Generic[View]):
    """Runs ``work(report)`` and yields what it reports, the newest when several came at once.

    Args:
        work: Calls ``report`` with views; when it is to stop, that call raises ``Stopped``.
        stop: Set by anyone, from any thread, to stop the work.
        pause: Seconds between two views at least.
    """

    def __init__(
        self, work: Callable[[Report], None], stop: threading.Event, pause: float = 0.1
    ) -> None:
        self._work, self._stop, self._pause = work, stop, pause
        self._news = threading.Event()
        self._newest: View | None = None
        self._error: BaseException | None = None
        self._stopped = False
        # A daemon, so that Ctrl-C ends the program within the step that is being taken.
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def stopped(self) -> bool:
        """Whether the work was broken off."""
        return self._stopped

    def views(self) -> Iterator[View]:
        """Do the work; closing this iterator stops it.

        Raises:
            BaseException: what the work raised, but for ``Stopped``.
        """
        self._thread.start()
        try:
            while self._thread.is_alive():
                if self._news.wait(timeout=0.5):
                    yield self._take()
                    self._stop.wait(self._pause)
            self._thread.join()
            if self._news.is_set():
                yield self._take()
        finally:
            self._stop.set()
        if self._error is not None:
            raise self._error

    def _take(self) -> View:
        self._news.clear()
        return self._newest

    def _run(self) -> None:
        try:
            self._work(self._report)
        except Stopped:
            self._stopped = True
        except BaseException as error:  # raised again where the views are watched
            self._error = error
        finally:
            if self._newest is not None:
                self._news.set()

    def _report(self, view: View) -> None:
        self._newest = view
        self._news.set()
        if self._stop.is_set():
            raise Stopped

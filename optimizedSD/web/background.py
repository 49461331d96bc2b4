"""Work in a thread of its own: what it reports can be followed from any, and a stop ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")
Report = Callable[[Item], None]


class Stopped(Exception):
    """Raised inside work that was stopped; the message, if there is one, says why."""


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
        self._stopped: Stopped | None = None
        # A daemon, so that Ctrl-C ends the program without waiting for the run.
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def stopped(self) -> bool:
        """Whether the work was stopped before its end."""
        return self._stopped is not None

    @property
    def why(self) -> str:
        """Why it was stopped; empty if somebody asked for it."""
        return str(self._stopped or "")

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
        except Stopped as stopped:
            self._stopped = stopped
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

"""A job as its owner sees it: where it is, how far it has come, its pictures. Imports no torch."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from apps.server.refused import Refused

if TYPE_CHECKING:
    from ldm.pipelines.request import Request

State = Literal["queued", "drawing", "done", "failed", "cancelled", "handed back"]
ENDED = ("done", "failed", "cancelled", "handed back")
LEAST_PAUSE = 0.1  # seconds between two reports of a job: small models take 100 steps a second
HANDED_BACK = "the server is shutting down and hands this job back; send it again later"


@dataclass(frozen=True, eq=False)
class Drawn:
    """A finished picture.

    Attributes:
        png: The file's bytes; its recipe is in there.
        parameters: That recipe, as text.
        prompt: What it was drawn from.
        seed: Its own.
        size: Width and height in pixels.
        flagged: Whether the safety checker blacked it out.
    """

    png: bytes
    parameters: str
    prompt: str
    seed: int
    size: tuple[int, int]
    flagged: bool = False


@dataclass(frozen=True)
class Snapshot:
    """How far a job is.

    Attributes:
        state: Where it is.
        done: Finished pictures.
        total: Pictures of the whole job.
        fraction: How much of the job's work is done, 0 to 1.
        notices: What is to be said of it.
        error: Why it failed; empty if it did not.
    """

    state: State
    done: int
    total: int
    fraction: float
    notices: tuple[str, ...] = ()
    error: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED


@dataclass(eq=False)
class Row:
    """One picture that is to be drawn.

    Attributes:
        ticket: Whose.
        index: Which of its pictures.
        request: What to draw; None once that is over, since an init image takes memory.
        group: Rows of equal groups can be drawn together.
        cost: Of drawing it, in millions of pixels times steps.
        queued: When it came, in seconds of the service's clock.
    """

    ticket: Ticket
    index: int
    request: Request | None
    group: Hashable
    cost: float
    queued: float

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.ticket.ended


@dataclass(eq=False)
class Ticket:
    """A job; every method may be called from any thread.

    Attributes:
        key: The name of the key that it belongs to.
        total: How many pictures it is for.
        id: What it is called; nobody can guess it.
        created: When it came, in seconds since 1970.
        retry_after: Seconds after which a job that was handed back may be sent again.
        waited: Seconds in the queue, until its first picture was begun.
        fetched: The pictures that its owner has been given.
    """

    key: str
    total: int
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    created: float = field(default_factory=time.time)
    retry_after: int = 1
    waited: float | None = None
    fetched: set[int] = field(default_factory=set)
    _state: State = "queued"
    _error: tuple[int, str] = (0, "")
    _pictures: dict[int, Drawn] = field(default_factory=dict)
    _fractions: dict[int, float] = field(default_factory=dict)
    _notices: dict[str, None] = field(default_factory=dict)
    _listeners: list[Callable[[], None]] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self._state in ENDED

    @property
    def bytes(self) -> int:
        """The memory that its finished pictures take."""
        with self._changed:
            return sum(len(each.png) for each in self._pictures.values())

    @property
    def pictures(self) -> list[Drawn]:
        """The finished pictures, in order."""
        with self._changed:
            return [self._pictures[index] for index in sorted(self._pictures)]

    @property
    def finished_numbers(self) -> list[int]:
        """Which pictures are finished; the first is 0."""
        with self._changed:
            return sorted(self._pictures)

    @property
    def left_to_fetch(self) -> bool:
        """Whether it has finished pictures that its owner may still come for."""
        with self._changed:
            wanted = self._state not in ("cancelled", "handed back")
            return wanted and len(self.fetched) < len(self._pictures)

    def picture(self, index: int) -> Drawn | None:
        """Return one finished picture; None if it is not there."""
        with self._changed:
            return self._pictures.get(index)

    def snapshot(self) -> Snapshot:
        """Return how far it is."""
        with self._changed:
            done = len(self._pictures)
            parts = sum(f for index, f in self._fractions.items() if index not in self._pictures)
            return Snapshot(
                state=self._state,
                done=done,
                total=self.total,
                fraction=min(1.0, (done + parts) / self.total),
                notices=tuple(self._notices),
                error=self._error[1],
            )

    def check(self) -> None:
        """Raise what became of a job that has ended without all its pictures.

        Raises:
            Refused: It failed, was cancelled, or was handed back.
        """
        with self._changed:
            state, (status, error) = self._state, self._error
        if state == "handed back":
            raise Refused(503, HANDED_BACK, retry_after=self.retry_after)
        if state == "cancelled":
            raise Refused(409, "the job was cancelled; send it again if it is wanted after all")
        if state == "failed":
            raise Refused(status, error)

    # What the service tells it.

    def begin(self, waited: float = 0.0) -> None:
        """Note that a picture of it is being drawn, and how many seconds that waited."""
        with self._changed:
            if self._set("drawing", only_from=("queued",)):
                self.waited = waited

    def advance(self, index: int, fraction: float) -> None:
        """Note how far a picture is, 0 to 1."""
        with self._changed:
            self._fractions[index] = fraction
        self._tell()

    def note(self, text: str) -> None:
        """Keep a sentence for its owner, once."""
        with self._changed:
            self._notices[text] = None

    def take(self, index: int, picture: Drawn) -> bool:
        """Take a finished picture, before the end; return whether it was the last one."""
        with self._changed:
            if self.ended:
                return False
            self._pictures[index] = picture
            last = len(self._pictures) == self.total
        if last:
            return self._set("done")
        self._tell()
        return False

    def fail(self, status: int, error: str) -> bool:
        """End it with an error; return whether it had not ended."""
        return self._set("failed", error=(status, error))

    def cancel(self) -> bool:
        """End it, as nobody wants it; return whether it had not ended."""
        return self._set("cancelled")

    def hand_back(self, retry_after: int) -> bool:
        """End it undrawn; return whether it had not ended."""
        with self._changed:
            if not self.ended:
                self.retry_after = retry_after
            return self._set("handed back")

    def _set(
        self,
        state: State,
        only_from: tuple[State, ...] = ("queued", "drawing"),
        error: tuple[int, str] = (0, ""),
    ) -> bool:
        with self._changed:
            if self._state not in only_from:
                return False
            self._state, self._error = state, error
        self._tell()
        return True

    # How others wait for it.

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; return whether it came within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.ended, timeout)

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    async def changes(self, pause: float = 15.0) -> AsyncIterator[Snapshot | None]:
        """Yield how far it is: at once, after changes, and at its end.

        Args:
            pause: After so many seconds without a change, None is yielded.
        """
        with self._waking(lambda: True) as changed:
            while True:
                changed.clear()
                snapshot = self.snapshot()
                yield snapshot
                if snapshot.ended:
                    return
                await asyncio.sleep(LEAST_PAUSE)
                while not await _within(changed.wait(), pause):
                    yield None

    async def finished(self) -> list[Drawn]:
        """Wait for the end and return the pictures.

        Raises:
            Refused: As ``check``.
        """
        with self._waking(lambda: self.ended) as ended:
            if not self.ended:
                await ended.wait()
        self.check()
        return self.pictures

    @contextlib.contextmanager
    def _waking(self, when: Callable[[], bool]) -> Iterator[asyncio.Event]:
        """Return an event that changes set, whichever thread they come from."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if when():
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    loop.call_soon_threadsafe(event.set)

        with self._changed:
            self._listeners.append(wake)
        try:
            yield event
        finally:
            with self._changed:
                self._listeners.remove(wake)


async def _within(wait: Awaitable[object], seconds: float) -> bool:
    try:
        await asyncio.wait_for(wait, seconds)
    except asyncio.TimeoutError:
        return False
    return True

"""Draw in other processes: requests go out, progress and pictures come back. Imports no Ray.

Here a ``RemoteDrawer`` stands in for the model; where the model is, ``told`` draws and reports.
What brings requests from one to the other is passed in; it may lose a process, and another draws.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from apps.server.drawing import Drawer, Finish, said_of
from ldm.errors import UserError, in_words
from ldm.pipelines.grouping import group_of
from ldm.pipelines.progress import Notice, Observer, Picture, Progress
from ldm.pipelines.request import Request, prepare

if TYPE_CHECKING:
    from PIL import Image

    from ldm.pipelines.masks import Mask
    from ldm.pipelines.models import ModelChoice
    from ldm.settings.generation import GenerationSettings

MOST_LOSSES = 3  # processes that a batch may lose


@dataclass(frozen=True)
class Finished:
    """A picture of a batch, or why it cannot be drawn.

    Attributes:
        index: Which request's.
        picture: It; None if it cannot be drawn.
        error: Why.
    """

    index: int
    picture: Picture | None
    error: str = ""


@dataclass(frozen=True)
class Failed:
    """What ended a batch: a lack of memory, what its requests ask for, or a fault."""

    kind: Literal["memory", "user", "fault"]
    text: str

    def check(self) -> None:
        """Raise the error that it tells of."""
        if self.kind == "fault":
            raise RuntimeError(self.text)
        raise UserError(self.text) from (MemoryError() if self.kind == "memory" else None)


Event = Progress | Notice | Finished | Failed
Send = Callable[[list[Request]], Iterator[Event]]
"""Has a batch drawn by some process; closing the iterator stops it."""


class RemoteDrawer:
    """Draws by processes that have the model.

    Args:
        choice: The model.
        at_once: How many processes there are.
        send: Has one of them draw.
        lost: What ``send`` raises if a process is lost.
    """

    def __init__(
        self,
        choice: ModelChoice,
        at_once: int,
        send: Send,
        lost: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.choice, self.at_once, self._send, self._lost = choice, at_once, send, lost

    def prepare(
        self,
        settings: GenerationSettings,
        image: Image.Image | None = None,
        mask: Image.Image | Mask | None = None,
    ) -> Request:
        """Complete and check a request; raises UserError."""
        return prepare(settings, self.choice, image=image, mask=mask)

    def notices(self, request: Request) -> Iterator[str]:
        """Say what of a request is ignored, but for prompts that are too long: none is counted."""
        return said_of(request)

    def group(self, request: Request) -> Hashable:
        """Return what requests that may be drawn together have in common."""
        return group_of(request)

    def draw(self, requests: Sequence[Request], observer: Observer) -> Iterator[Finish]:
        """Draw requests; what a lost process leaves is drawn by another one."""
        left = dict(enumerate(requests))
        for _ in range(MOST_LOSSES):
            try:
                yield from self._drawn(left, observer)
            except self._lost as error:
                lost = error
            else:
                return
        raise RuntimeError(f"{MOST_LOSSES} processes that drew a batch were lost") from lost

    def _drawn(self, left: dict[int, Request], observer: Observer) -> Iterator[Finish]:
        """Draw what is left; what comes is taken out of it."""
        names = list(left)
        # The model is the other side's own: what knows its files stays here.
        sent = [replace(left[name], choice=None) for name in names]
        with contextlib.closing(self._send(sent)) as events:
            for event in events:
                if isinstance(event, (Progress, Notice)):
                    observer(event)
                elif isinstance(event, Failed):
                    event.check()
                else:
                    del left[names[event.index]]
                    yield names[event.index], partial(_picture_of, event)


def _picture_of(event: Finished) -> Picture:
    if event.picture is None:
        raise UserError(event.error)
    return event.picture


class _Stopped(Exception):
    """Raised inside a batch that nobody waits for any more."""


def told(
    drawer: Drawer, requests: Sequence[Request], alone: threading.Lock | None = None
) -> Generator[Event, None, None]:
    """Draw requests that have been sent here, and tell of it as it goes.

    Closing the iterator stops the drawing after a step, and waits for that.

    Args:
        drawer: Has the model.
        requests: Without a model.
        alone: Held while the model draws.
    """
    events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    stop = threading.Event()

    def observe(event: Notice | Progress) -> None:
        if stop.is_set():
            raise _Stopped
        events.put(event)

    def work() -> None:
        own = [replace(request, choice=drawer.choice) for request in requests]
        try:
            with alone or contextlib.nullcontext():
                if stop.is_set():  # while another batch was drawn
                    return
                with contextlib.closing(drawer.draw(own, observe)) as drawn:
                    for index, finish in drawn:
                        events.put(_finished(index, finish))
        except Exception as error:
            events.put(_failed(error))
        finally:
            events.put(None)

    thread = threading.Thread(target=work, name="draws", daemon=True)
    thread.start()
    try:
        while (event := events.get()) is not None:
            yield event
    finally:
        stop.set()
        thread.join()


async def relayed(events: Generator[Event, None, None]) -> AsyncIterator[Event]:
    """Pass on what is ``told`` without keeping the loop waiting.

    Whatever ends it, a cancel while it waits too, it is over only when the model is free again.
    """
    pull = asyncio.ensure_future(asyncio.to_thread(next, events, None))
    try:
        while (event := await asyncio.shield(pull)) is not None:
            yield event
            pull = asyncio.ensure_future(asyncio.to_thread(next, events, None))
    finally:
        await asyncio.wait({pull})  # a generator that runs cannot be closed
        await asyncio.to_thread(events.close)


def _finished(index: int, finish: Callable[[], Picture]) -> Finished:
    try:
        return Finished(index, finish())
    except UserError as error:
        return Finished(index, None, str(error))


def _failed(error: Exception) -> Failed:
    from ldm.pipelines.phases import lacked_memory  # imports torch, as has who drew

    if lacked_memory(error):
        return Failed("memory", str(error))
    return (
        Failed("user", str(error))
        if isinstance(error, UserError)
        else Failed("fault", in_words(error))
    )

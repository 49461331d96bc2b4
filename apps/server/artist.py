"""The threads that draw: choose a batch, draw it, hand its pictures to who encodes them.

A picture that cannot be drawn costs nobody else theirs: a batch that fails is drawn in halves.
Where memory was lacking, batches stay at half from then on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from apps.server.desk import Desk
from apps.server.refused import for_strangers
from apps.server.tickets import Drawn, Row
from ldm.errors import UserError, in_words
from ldm.images.io import encode_picture
from ldm.pipelines.progress import Notice, Picture, Progress

logger = logging.getLogger(__name__)
ENCODERS = 2  # threads that compress pictures: Pillow lets others work meanwhile


class Unwanted(Exception):
    """Raised inside a batch that nobody waits for any more."""


class TooLong(Exception):
    """Raised inside a batch that has taken longer than a run may."""


class Artist:
    """Draws what waits in a service's lanes.

    Args:
        desk: The service's.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.most = desk.terms.batch_size
        # What waits to be compressed takes memory: the model does not run far ahead.
        self._ahead = threading.Semaphore(2 * self.most)
        self._encoders = ThreadPoolExecutor(ENCODERS, thread_name_prefix="encodes")

    def run(self, batches: int = 1) -> None:
        """Draw until the service is drained.

        Args:
            batches: How many are drawn at a time, each in a thread of its own.
        """
        others = [
            threading.Thread(target=self._draw_on, name=f"draws {number}", daemon=True)
            for number in range(2, batches + 1)
        ]
        with self._encoders:
            for each in others:
                each.start()
            self._draw_on()
            for each in others:
                each.join()

    def _draw_on(self) -> None:
        while (rows := self.next_batch()) is not None:
            self.draw(rows)

    # Which.

    def next_batch(self) -> list[Row] | None:
        """Wait for rows that can be drawn together; None if the service is drained.

        It may come out empty: somebody cancelled meanwhile.
        """
        desk = self.desk
        with desk.moved:
            while (first := desk.lanes.first()) is None:
                if desk.draining:
                    return None
                desk.moved.wait()
            most = max(1, min(self.most, desk.limits.rows(*first.request.final_size)))
            self._wait_for_company(first, most)
            return desk.lanes.take(first.group, most)

    def _wait_for_company(self, first: Row, most: int) -> None:
        """Wait for others to draw with, as long as nothing else is kept waiting."""
        desk, until = self.desk, first.queued + self.desk.terms.max_wait
        while not desk.draining:
            groups = [row.group == first.group for row in desk.lanes]
            left = until - desk.clock()
            if len(groups) >= most or not all(groups) or left <= 0.0:
                return
            desk.moved.wait(left)

    # Drawing it.

    def draw(self, rows: list[Row]) -> None:
        """Draw a batch, in halves where it fails."""
        rows = [row for row in rows if row.wanted]
        if not rows:
            return
        began = self.desk.clock()
        left = dict(enumerate(rows))
        try:
            self._draw(rows, left)
        except (Unwanted, TooLong) as error:
            if isinstance(error, TooLong):
                for row in left.values():
                    self._fail(row, 422, str(error))
        except Exception as error:
            self._after(error, list(left.values()))
        else:
            cost = sum(row.cost for row in rows)
            self.desk.pace.measure(cost, self.desk.clock() - began)
        finally:
            for row in rows:
                row.request = None  # an init image takes memory

    def _draw(self, rows: list[Row], left: dict[int, Row]) -> None:
        """Draw a batch; what is drawn is taken out of ``left``."""
        desk, began = self.desk, self.desk.clock()
        for row in rows:
            row.ticket.begin(began - row.queued)
            desk.metrics.waited(began - row.queued)
        desk.metrics.batch(len(rows))
        watch = Watch(rows, began + desk.limits.seconds, desk.clock)
        drawn = desk.drawer.draw([row.request for row in rows], watch)
        with contextlib.closing(drawn), desk.metrics.drawing():
            for index, finish in drawn:
                self._ahead.acquire()
                self._encoders.submit(self._finish, left.pop(index), finish)
        if left:
            raise RuntimeError(f"{len(left)} of {len(rows)} pictures were not drawn")

    def _after(self, error: Exception, left: list[Row]) -> None:
        """Draw what is left of a batch that failed: halves of it, until one picture is to blame."""
        if len(left) > 1:
            from ldm.pipelines.phases import lacked_memory  # imports torch, as has who drew

            if lacked_memory(error):
                self.most = max(1, len(left) // 2)
                logger.warning("memory is lacking for %d pictures at a time", len(left))
            half = len(left) // 2
            self.draw(left[:half])
            self.draw(left[half:])
            return
        for row in left:
            self._blame(row, error)

    def _finish(self, row: Row, finish: Callable[[], Picture]) -> None:
        """Make a picture and its file; runs in a thread of its own."""
        try:
            picture = finish()
            png = encode_picture(picture.whole, "png", picture.parameters)
            size = picture.pixels.shape[1::-1]
            drawn = Drawn(
                png, picture.parameters, picture.prompt, picture.seed, size, picture.flagged
            )
            self.desk.metrics.picture(drawn)
            self.desk.faults = 0
            if row.ticket.take(row.index, drawn):
                self.desk.ended(row.ticket, "done")
        except Exception as error:
            self._blame(row, error)
        finally:
            self._ahead.release()

    def _blame(self, row: Row, error: Exception) -> None:
        """End the job of a picture that cannot be drawn."""
        if isinstance(error, UserError):
            self._fail(row, 422, for_strangers(str(error), self.desk.hidden))
        else:
            logger.error("a picture could not be drawn: %s", in_words(error), exc_info=error)
            self.desk.faults += 1
            self._fail(row, 500, "the picture could not be drawn, by a fault of the server")

    def _fail(self, row: Row, status: int, text: str) -> None:
        with self.desk.moved:
            self.desk.lanes.drop(row.ticket)
        if row.ticket.fail(status, text):
            self.desk.ended(row.ticket, "failed")


class Watch:
    """Sees a batch's events: tells its jobs, and stops it when nobody waits or it takes too long.

    Args:
        rows: The batch.
        until: When it has to be done, in seconds of the clock.
        clock: In seconds.
    """

    def __init__(self, rows: list[Row], until: float, clock: Callable[[], float]) -> None:
        self.rows, self.until, self.clock = rows, until, clock

    def __call__(self, event: Notice | Progress) -> None:
        """Take an event; raises ``Unwanted`` or ``TooLong``."""
        if isinstance(event, Notice):
            for row in self.rows:
                row.ticket.note(for_strangers(event.text))
            return
        self.check()
        fraction = event.done / event.total if event.total else 1.0
        for row in self.rows:
            row.ticket.advance(row.index, fraction)

    def check(self) -> None:
        """Raise ``Unwanted`` or ``TooLong`` where there is reason to; called all the time."""
        if not any(row.wanted for row in self.rows):
            raise Unwanted
        if self.clock() > self.until:
            raise TooLong("the job took longer than the server allows; give fewer steps, or less")

"""Draws jobs, one after the other: one worker for each device."""

from __future__ import annotations

import errno
import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from apps.line_bot import messages
from apps.line_bot.database import surely
from apps.line_bot.jobs import MOST_ATTEMPTS, Job, Origin, Queue
from apps.line_bot.loop import run_steps
from apps.line_bot.outbox import Outbox
from apps.line_bot.people import People, Warnings
from apps.line_bot.texts import say
from ldm.atomic import replacing
from ldm.errors import UserError, in_words

logger = logging.getLogger(__name__)
TROUBLE = 30.0  # seconds to wait where the disk or LINE is in trouble
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
MOST_FAULTS = 3  # how often a job is begun whose drawing fails for no known reason


class Unwanted(Exception):
    """Raised inside a drawing that its user has cancelled, or that the bot's end interrupts."""


class NotNow(Exception):
    """A job cannot be drawn at the moment, through no fault of its own."""


class Died(Exception):
    """The process that drew a job is not there any more."""


class BadPhoto(Exception):
    """The photo that a job is about is not there, or is none."""


Draw = Callable[[Job, Path, Callable[[], None]], None]
"""Draws a job's pictures into an empty folder as 0.png, 1.png, ...; its third argument is called
between steps, and raises ``Unwanted``. May raise UserError, BadPhoto, NotNow, Died and OSError. One
that has a method ``close`` is closed at the bot's end."""


def _is_full(error: UserError) -> bool:
    """Whether a picture could not be written because of the disk, which is no fault of the job."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _OF_DISKS


@dataclass
class Worker:
    """Takes jobs from the queue and draws them.

    Attributes:
        queue: Where jobs are.
        outbox: Where failures are told.
        people: Get back what was not drawn.
        warnings: Where the operator reads of trouble.
        draw: Draws.
        wake: Called when there is something to send.
    """

    queue: Queue
    outbox: Outbox
    people: People
    warnings: Warnings
    draw: Draw
    wake: Callable[[], None] = lambda: None
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, stop: threading.Event, news: threading.Event) -> None:
        """Draw until ``stop``; ``news`` is set when there are jobs."""
        self._stop = stop
        run_steps(self.step, stop, news)

    def step(self) -> bool:
        """Draw the next job; return whether there was one that could be drawn."""
        job = self.queue.claim()
        if job is None:
            return False
        try:
            self._draw(job)
            end = partial(self.queue.drawn, job)
        except Unwanted:
            end = partial(self.queue.put_back, job, counts=False)  # unless it was cancelled
        except (NotNow, OSError, sqlite3.OperationalError) as error:
            self._trouble(job, error)
            return False
        except BadPhoto as error:
            end = partial(self._fail, job, str(error), "bad_photo")
        except UserError as error:
            if _is_full(error):
                self._trouble(job, error)
                return False
            end = partial(self._fail, job, str(error))
        except Exception as error:
            end = self._after_fault(job, error)
        surely(end, self._stop)
        self.wake()
        return True

    def _after_fault(self, job: Job, error: Exception) -> Callable[[], object]:
        """Return what ends a job's attempt that failed by no fault of its user."""
        logger.error("job %s could not be drawn", job.name, exc_info=error)
        most = MOST_ATTEMPTS if isinstance(error, Died) else MOST_FAULTS
        if job.attempts >= most:
            return partial(self._fail, job, in_words(error))
        return partial(self.queue.put_back, job)

    def _draw(self, job: Job) -> None:
        folder = self.queue.folder(job)
        if folder.is_dir():  # drawn, and the process ended before that was noted
            return
        with replacing(folder) as part:
            part.mkdir()
            self.draw(job, part, lambda: self._check(job))
            if not any(part.iterdir()):
                raise RuntimeError("nothing was drawn")

    def _check(self, job: Job) -> None:
        if self._stop.is_set() or self.queue.state(job) != "drawing":
            raise Unwanted

    def _trouble(self, job: Job, error: Exception) -> None:
        text = str(error) if isinstance(error, (NotNow, UserError)) else in_words(error)
        logger.warning("job %s waits: %s", job.name, text)
        surely(partial(self._wait_with, job, text), self._stop)
        self._stop.wait(TROUBLE)

    def _wait_with(self, job: Job, text: str) -> None:
        with self.queue.base.transaction():
            self.queue.put_back(job, counts=False)
            self.warnings.say("worker", f"a job waits: {text}")

    def _fail(self, job: Job, reason: str, key: str = "failed") -> None:
        """End a job, tell its user, and give back what it was charged."""
        logger.error("job %s failed: %s", job.name, reason)
        with self.queue.base.transaction():
            if self.queue.fail(job, reason):
                self.people.charge(job.user, -job.task.count)
                self.outbox.answer(self._origin(job), [messages.words(say(key, job.language))])

    def _origin(self, job: Job) -> Origin:
        row = self.queue.base.row("SELECT * FROM jobs WHERE id=?", job.id)
        return Origin(row["event_id"], job.user, job.chat, row["sent"], row["reply_token"])

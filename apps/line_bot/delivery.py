"""Sends what is in the outbox: reply while the token is fresh, else push, for hours if need be.

A reply cannot be marked with a retry key. Before one is sent that is noted, so that a reply whose
end nobody heard of (a lost connection, a killed process) is repeated with the same token: it either
succeeds now, or LINE calls the token invalid. Within the minute for which LINE promises a token to
be good, that means that the first one had arrived. Later it may as well be too old: the message is
then pushed, since a picture that comes twice is better than one that never comes. A push is
repeated with the same retry key, which LINE knows for 24 hours.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from apps.line_bot import messages
from apps.line_bot.database import surely
from apps.line_bot.gallery import Gallery, PicturesGone
from apps.line_bot.jobs import Job
from apps.line_bot.line_api import Outcome
from apps.line_bot.loop import run_steps
from apps.line_bot.outbox import Letter, Outbox
from apps.line_bot.people import Warnings
from apps.line_bot.texts import say
from ldm.errors import in_words

logger = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 900.0  # seconds
REPLY_PAUSE = 5.0  # seconds at most between tries to reply
TOKEN_LASTS = 55.0  # seconds after the event in which a token that is refused was surely used
QUOTA_PAUSE = 3600.0  # seconds until a month that is used up is looked at again
MOST_AT_ONCE = 8  # loading animations that are being asked for


class Api(Protocol):
    """The calls that deliveries are made by; see ``line_api.LineApi``."""

    def reply(self, reply_token: str, messages: list[dict[str, Any]]) -> Outcome: ...

    def push(self, chat: str, messages: list[dict[str, Any]], retry_key: str) -> Outcome: ...

    def pushes_left(self) -> Outcome: ...


@dataclass
class Delivery:
    """Sends letters, one after the other.

    Attributes:
        api: LINE.
        outbox: What is to be sent.
        gallery: Gives pictures addresses.
        warnings: Where the operator reads of trouble.
        fresh: How old an event may be for its reply token to be used, in seconds.
        give_up: How long a letter is tried, in seconds.
        clock: Seconds since 1970.
        jitter: Numbers from 0 to 1, which spread repeated calls over time.
    """

    api: Api
    outbox: Outbox
    gallery: Gallery
    warnings: Warnings
    fresh: float = 30.0
    give_up: float = 23 * 3600.0
    clock: Callable[[], float] = field(default=time.time)
    jitter: Callable[[], float] = field(default=random.random)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, stop: threading.Event, news: threading.Event) -> None:
        """Send letters until ``stop``; ``news`` is set when there are some."""
        self._stop = stop
        run_steps(self.step, stop, news)

    def step(self) -> bool:
        """Try the next letter that is due; return whether there was one."""
        letter = self.outbox.due()
        if letter is None:
            return False
        try:
            self._try(letter)
        except sqlite3.OperationalError:
            raise
        except Exception as error:  # a fault of ours must not hold up the letters that follow
            logger.exception("a delivery could not be tried")
            self._later(letter, in_words(error))
        return True

    def _try(self, letter: Letter) -> None:
        if self.clock() - letter.created > self.give_up:
            self._fail(letter, f"not delivered within {self.give_up / 3600:g} hours")
            return
        try:
            found = letter.messages or self._addressed(letter)
        except PicturesGone as error:
            self._fail(letter, str(error))
            return
        except OSError as error:
            self.warnings.say("store", f"pictures cannot be stored ({type(error).__name__})")
            self._later(letter, "pictures cannot be stored now")
            return
        if letter.reply_token and self._replied(letter, found):
            return
        self._push(letter, found)

    def _addressed(self, letter: Letter) -> list[dict[str, Any]]:
        row = self.outbox.base.row("SELECT * FROM jobs WHERE id=?", letter.job)
        job = Job.of(row)
        found = messages.pictures(self.gallery.publish(job), job.name, job.language)
        remarks = []
        if black := self.gallery.flagged(job):
            remarks.append(say("blacked_out", job.language, count=black, of=len(found)))
        if unknown := self.gallery.unknown_words(job):
            remarks.append(say("unknown_words", job.language, words=", ".join(unknown)))
        if remarks:  # first, as buttons are seen under the last alone; LINE takes five in all
            found.insert(0, messages.words("\n".join(remarks)))
        self.outbox.addressed(letter, found)
        return found

    def _replied(self, letter: Letter, found: list[dict[str, Any]]) -> bool:
        """Try to reply; return whether the letter is done with for now."""
        age, repeated = self.clock() - letter.sent, letter.reply_tried is not None
        if not repeated and age >= self.fresh:
            self.outbox.no_reply(letter)
            return False
        self.outbox.trying(letter, "reply")
        outcome = self.api.reply(letter.reply_token, found)
        if outcome.done or (repeated and outcome.token_is_spent and age < TOKEN_LASTS):
            self._sent(letter)
        elif outcome.token_is_spent:
            self.outbox.no_reply(letter)
            return False
        elif outcome.answer == "refused":
            self._fail(letter, outcome.reason)
        else:
            if outcome.answer in ("later", "unreached") and not repeated:
                self.outbox.not_tried(letter)  # it has certainly not arrived
            # Within the token's minute there is an answer to whether the reply arrived.
            most = REPLY_PAUSE if age < TOKEN_LASTS else LONGEST_PAUSE
            self._later(letter, outcome.reason, outcome.wait, most)
        return True

    def _push(self, letter: Letter, found: list[dict[str, Any]]) -> None:
        # What may have arrived already is asked for with its key; that takes nothing of the quota.
        if letter.push_tried is None and not self._may_push(letter):
            return
        self.outbox.trying(letter, "push")
        outcome = self.api.push(letter.chat, found, letter.retry_key)
        if outcome.done:
            self._sent(letter)
        elif outcome.month_is_over:
            self._quota_is_over(letter)
        elif outcome.answer == "refused":
            self._fail(letter, outcome.reason)
        else:
            self._later(letter, outcome.reason, outcome.wait)

    def _sent(self, letter: Letter) -> None:
        """Note that it has arrived, however long that takes: it would be sent twice otherwise."""
        surely(partial(self.outbox.sent, letter), self._stop)

    def _may_push(self, letter: Letter) -> bool:
        outcome = self.api.pushes_left()
        if not outcome.done:
            if outcome.answer == "refused":
                self._fail(letter, outcome.reason)
            else:
                self._later(letter, outcome.reason, outcome.wait)
            return False
        if outcome.value == 0:
            self._quota_is_over(letter)
            return False
        self.warnings.over("quota")
        return True

    def _quota_is_over(self, letter: Letter) -> None:
        text = "this month's messages are used up at LINE: only fresh events are answered"
        if self.warnings.say("quota", text):
            logger.error("%s", text)
        self.outbox.later(letter, QUOTA_PAUSE, "this month's messages are used up")

    def _later(
        self, letter: Letter, reason: str, wait: float = 0.0, most: float = LONGEST_PAUSE
    ) -> None:
        # Tries within the token's minute are many: what follows them starts from its length.
        waited = max(FIRST_PAUSE, 2 * (self.clock() - letter.created))
        pause = min(most, waited, FIRST_PAUSE * 2 ** min(letter.tries, 20))
        seconds = max(wait, pause * (0.5 + 0.5 * self.jitter()))
        logger.info("a delivery is tried again in %.0f s: %s", seconds, reason)
        self.outbox.later(letter, seconds, reason)

    def _fail(self, letter: Letter, reason: str) -> None:
        logger.error("a delivery failed: %s", reason)
        self.warnings.say("delivery", f"a delivery failed: {reason}")
        self.outbox.fail(letter, reason)


class Courtesy:
    """Calls to LINE that may fail unseen: the loading animation, a user's language.

    Args:
        api: A ``LineApi``.
    """

    def __init__(self, api: Any) -> None:
        self._api = api
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)

    def language_of(self, user: str) -> str:
        """Return the user's language; empty if LINE does not tell."""
        outcome = self._api.language(user)
        return str(outcome.value or "")[:20] if outcome.done else ""

    def show_loading(self, user: str) -> None:
        """Show the loading animation, in a thread of its own: nobody waits for it."""
        if self._free.acquire(blocking=False):  # while LINE hangs, the others do without
            threading.Thread(target=self._show, args=(user,), daemon=True).start()

    def _show(self, user: str) -> None:
        try:
            self._api.show_loading(user)
        finally:
            self._free.release()

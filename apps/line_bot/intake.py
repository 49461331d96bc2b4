"""From stored events to jobs and answers: each event once, in one transaction."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from apps.line_bot import messages
from apps.line_bot.database import Database
from apps.line_bot.events import Incoming, read_event
from apps.line_bot.jobs import Job, Queue, Task
from apps.line_bot.loop import run_steps
from apps.line_bot.outbox import Outbox
from apps.line_bot.people import EVERYBODY, People, Warnings
from apps.line_bot.refused import Refused
from apps.line_bot.settings import BotSettings
from apps.line_bot.texts import STYLES, language_of, say
from apps.line_bot.words import Ask, Limits, read_button, read_text
from ldm.errors import in_words

logger = logging.getLogger(__name__)


class Line(Protocol):
    """What intake asks of LINE; neither may raise."""

    def language_of(self, user: str) -> str:
        """Return the user's language, such as ``ja``; empty if LINE does not tell."""

    def show_loading(self, user: str) -> None:
        """Let the user see that the bot is at work."""


@dataclass
class Intake:
    """Reads events in the order in which they came.

    Attributes:
        base: The database.
        settings: The operator's.
        line: Asked for languages, and told to show the loading animation.
        refused: Words that are not drawn.
        recipe: Returns how a job's picture was made; None if it is gone.
        wake: Set when there is something new to draw or to send.
    """

    base: Database
    settings: BotSettings
    line: Line
    queue: Queue
    outbox: Outbox
    people: People
    warnings: Warnings
    refused: Refused
    recipe: Callable[[Job], str | None]
    wake: Callable[[], None] = lambda: None
    _limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        chosen = self.settings
        self._limits = Limits(chosen.most_pictures, chosen.most_steps, chosen.most_prompt)

    def run(self, stop: threading.Event, news: threading.Event) -> None:
        """Read events until ``stop``; ``news`` is set when some have come."""
        run_steps(self.step, stop, news)

    def step(self) -> bool:
        """Read the oldest new event; return whether there was one."""
        row = self.base.row("SELECT * FROM events WHERE state='new' ORDER BY id LIMIT 1")
        if row is None:
            return False
        incoming = read_event(row["event_id"], row["body"], row["received"])
        try:
            loading = self._take(row["id"], incoming)
        except sqlite3.OperationalError:
            raise
        except Exception as error:  # a fault of ours must not stop all events that follow
            logger.exception("event %s could not be read", row["event_id"])
            self._give_up(row["id"], incoming, in_words(error))
            return True
        self.wake()
        if loading and incoming is not None and incoming.alone:
            self.line.show_loading(incoming.origin.user)
        return True

    def _take(self, number: int, incoming: Incoming | None) -> bool:
        """Do what an event asks; return whether something will be drawn."""
        meant = incoming is not None and self._is_meant(incoming)
        language = self._language(incoming) if meant else ""
        with self.base.transaction() as tell:
            loading = self._act(incoming, language) if meant else False
            tell("UPDATE events SET state='read' WHERE id=?", (number,))
        return loading

    def _give_up(self, number: int, incoming: Incoming | None, reason: str) -> None:
        with self.base.transaction() as tell:
            tell("UPDATE events SET state='failed', reason=? WHERE id=?", (reason, number))
            if incoming is not None and incoming.addressed:
                self._say(incoming, "failed", language_of(incoming.text))
        self.warnings.say("intake", f"an event could not be read: {reason}")

    def _is_meant(self, incoming: Incoming) -> bool:
        if self.people.blocked(incoming.origin.user, incoming.origin.chat):
            return incoming.kind in ("left", "unsent")
        return incoming.addressed or incoming.kind in ("met", "left", "unsent")

    def _language(self, incoming: Incoming) -> str:
        """Return the language to answer in, asking LINE once for each user."""
        user = incoming.origin.user
        if incoming.kind not in ("left", "unsent"):
            self.people.meet(user)
            if self.people.wants_language(user):
                self.people.speaks(user, self.line.language_of(user))
        written = incoming.text if incoming.kind == "text" else ""
        return language_of(written, self.people.language(user))

    def _act(self, incoming: Incoming, language: str) -> bool:
        origin = incoming.origin
        if incoming.kind == "unsent":
            self._refund(self.queue.cancel(origin.user, origin.sent, origin.message_id))
        elif incoming.kind == "left":
            self._refund(self.queue.cancel(origin.chat, origin.sent, of="chat"))
            self.outbox.drop(origin.chat)
        elif incoming.kind == "met":
            self._say(incoming, "help", language)
        elif not self._may(incoming):
            self._say(incoming, "not_allowed", language, user=origin.user)
        elif incoming.kind == "photo":
            self.people.keep_photo(origin.user, origin.message_id, origin.sent)
            self._say(incoming, "photo", language)
        elif incoming.kind == "button":
            return self._pressed(incoming, language)
        elif incoming.kind == "text":
            return self._told(incoming, language)
        else:
            self._say(incoming, "unreadable", language)
        return False

    def _may(self, incoming: Incoming) -> bool:
        listed = {incoming.origin.user, incoming.origin.chat} & set(self.settings.allow)
        return self.settings.open_to == "all" or bool(listed)

    def _told(self, incoming: Incoming, language: str) -> bool:
        ask = read_text(incoming.text, self._limits, self.refused)
        if ask.kind == "draw":
            return self._draw(incoming, self._about_photo(incoming, ask.task), language)
        if ask.kind == "cancel":
            self._cancel(incoming, language)
        elif ask.kind == "recipe":
            self._tell_recipe(incoming, language)
        else:
            self._explain(incoming, ask, language)
        return False

    def _explain(self, incoming: Incoming, ask: Ask, language: str) -> None:
        self._say(incoming, "help" if ask.kind == "help" else ask.key, language, **ask.filled)

    def _about_photo(self, incoming: Incoming, task: Task) -> Task:
        """Return the task as one about the user's photo, if that waits for words."""
        origin = incoming.origin
        photo = self.people.photo(origin.user, origin.sent) if incoming.alone else ""
        return replace(task, kind="photo", photo=photo) if photo else task

    def _cancel(self, incoming: Incoming, language: str) -> None:
        origin = incoming.origin
        found = self.queue.cancel(origin.user, origin.sent)
        had_photo = incoming.alone and bool(self.people.photo(origin.user, origin.sent))
        self.people.drop_photo(origin.user)
        self._refund(found)
        count = len(found) + had_photo
        self._say(incoming, "cancelled" if count else "nothing_to_cancel", language, count=count)

    def _refund(self, jobs: list[Job]) -> None:
        for job in jobs:
            self.people.charge(job.user, -job.task.count)

    def _tell_recipe(self, incoming: Incoming, language: str) -> None:
        job = self.queue.latest(incoming.origin.chat, incoming.origin.user)
        text = self.recipe(job) if job else None
        if text:
            self.outbox.answer(incoming.origin, [messages.words(text)])
        else:
            self._say(incoming, "gone" if job else "no_recipe", language)

    def _pressed(self, incoming: Incoming, language: str) -> bool:
        action, name, style = read_button(incoming.text)
        if action == "stop":
            self._cancel(incoming, language)
            return False
        job = self.queue.named(name) if name else None
        if not action or job is None or job.chat != incoming.origin.chat:
            self._say(incoming, "unknown_button", language)
            return False
        if action == "style" and not style:
            self.outbox.answer(incoming.origin, [messages.styles(name, language)])
            return False
        task = again(job, action, style)
        if task.source and not self.queue.folder(task.source).is_dir():
            self._say(incoming, "gone", language)
            return False
        return self._draw(incoming, task, language)

    def _draw(self, incoming: Incoming, task: Task, language: str) -> bool:
        origin, chosen = incoming.origin, self.settings
        left = max(0, chosen.daily_pictures - self.people.had(origin.user))
        if task.count > left:
            most = chosen.daily_pictures
            self._say(incoming, "user_limit", language, most=most, left=left)
        elif task.count > chosen.daily_total - self.people.had(EVERYBODY):
            self._say(incoming, "day_limit", language)
        elif self.queue.waiting(origin.user) >= chosen.waiting_jobs:
            self._say(incoming, "many_waiting", language, most=chosen.waiting_jobs)
        else:
            return self._enqueue(incoming, task, language)
        return False

    def _enqueue(self, incoming: Incoming, task: Task, language: str) -> bool:
        """Queue a job; tell its place if its picture comes too late to be the event's reply."""
        ahead = self.queue.waiting()
        seconds = (ahead + 1) * self.queue.seconds_each() / len(self.settings.device)
        slow = ahead > 0 and seconds > self.settings.reply_seconds
        origin = replace(incoming.origin, reply_token="") if slow else incoming.origin
        job = self.queue.add(origin, language, task)
        if task.photo:
            self.people.drop_photo(origin.user, task.photo)
        if job.state == "cancelled":
            return False
        self.people.charge(origin.user, task.count)
        if slow:
            self._say(incoming, "queued", language, ahead=ahead)
        return True

    def _say(self, incoming: Incoming, key: str, language: str, **filled: object) -> None:
        self.outbox.answer(incoming.origin, [messages.words(say(key, language, **filled))])


def again(job: Job, action: str, style: str = "") -> Task:
    """Return the task of a button under a job's pictures."""
    task = job.task
    if action == "again":
        return replace(task, seed=None)
    if action in ("variation", "larger"):
        return replace(task, kind=action, count=1, seed=None, source=job.name, photo="")
    styled = STYLES[style]
    plain = task.prompt
    for each in STYLES.values():
        plain = plain.removesuffix(f", {each}")
    return replace(task, prompt=f"{plain}, {styled}", count=1)

"""What is to be said: each message with the retry key that it keeps however often it is sent."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from apps.line_bot.database import Database
from apps.line_bot.jobs import Origin


@dataclass(frozen=True)
class Letter:
    """A delivery as it is now.

    Attributes:
        id: Its number.
        job: The job whose pictures it brings; None is an answer in words.
        chat: Where it goes.
        reply_token: Of the event that it answers.
        sent: When that event was sent, in seconds since 1970.
        retry_key: Marks it to LINE: what has the same key is delivered once.
        messages: As LINE's API takes them; empty until the pictures have addresses.
        reply_tried: When a reply was begun whose end nobody knows; None if none was.
        push_tried: When it was first pushed; None if it was not.
        tries: How often it was tried in vain.
        created: When it was written, in seconds since 1970.
    """

    id: int
    job: int | None
    chat: str
    reply_token: str
    sent: float
    retry_key: str
    messages: list[dict[str, Any]]
    reply_tried: float | None
    push_tried: float | None
    tries: int
    created: float

    @classmethod
    def of(cls, row: sqlite3.Row) -> Letter:
        """Read a delivery from its row."""
        own = {key: row[key] for key in cls.__dataclass_fields__ if key != "messages"}
        return cls(messages=json.loads(row["body"] or "[]"), **own)


@dataclass
class Outbox:
    """Deliveries in the database.

    Attributes:
        base: The database.
        clock: Seconds since 1970.
    """

    base: Database
    clock: Callable[[], float] = field(default=time.time)

    def answer(self, origin: Origin, messages: list[dict[str, Any]]) -> None:
        """Put an answer in words into the box."""
        with self.base.transaction() as tell:
            tell(
                "INSERT INTO outbox (chat, reply_token, sent, retry_key, body, created) "
                "VALUES (?,?,?,?,?,?)",
                (
                    origin.chat,
                    origin.reply_token,
                    origin.sent,
                    str(uuid.uuid4()),
                    json.dumps(messages, ensure_ascii=False),
                    self.clock(),
                ),
            )

    def due(self) -> Letter | None:
        """Return the next delivery that may be tried now."""
        row = self.base.row(
            "SELECT * FROM outbox WHERE state='waiting' AND next_try<=? "
            "ORDER BY next_try, id LIMIT 1",
            self.clock(),
        )
        return Letter.of(row) if row else None

    def addressed(self, letter: Letter, messages: list[dict[str, Any]]) -> None:
        """Keep what is to be sent, so that each try sends the same."""
        body = json.dumps(messages, ensure_ascii=False)
        with self.base.transaction() as tell:
            tell("UPDATE outbox SET body=? WHERE id=?", (body, letter.id))

    def trying(self, letter: Letter, way: str) -> None:
        """Note, before it is sent, that it may have arrived even if nothing is heard of it."""
        column = {"reply": "reply_tried", "push": "push_tried"}[way]
        with self.base.transaction() as tell:
            tell(
                f"UPDATE outbox SET {column}=coalesce({column}, ?) WHERE id=?",
                (self.clock(), letter.id),
            )

    def not_tried(self, letter: Letter) -> None:
        """Note that a reply has certainly not arrived; its token is still good."""
        with self.base.transaction() as tell:
            tell("UPDATE outbox SET reply_tried=NULL WHERE id=?", (letter.id,))

    def no_reply(self, letter: Letter) -> None:
        """Forget the reply token: it can bring nothing any more, and has brought nothing."""
        with self.base.transaction() as tell:
            tell("UPDATE outbox SET reply_token='', reply_tried=NULL WHERE id=?", (letter.id,))

    def sent(self, letter: Letter) -> None:
        """Note that it has arrived."""
        now = self.clock()
        with self.base.transaction() as tell:
            tell("UPDATE outbox SET state='sent', reason='' WHERE id=?", (letter.id,))
            tell(
                "UPDATE jobs SET state='delivered', ended=? WHERE id=? AND state='drawn'",
                (now, letter.job),
            )

    def later(self, letter: Letter, seconds: float, reason: str) -> None:
        """Try again after so many seconds."""
        with self.base.transaction() as tell:
            tell(
                "UPDATE outbox SET tries=tries+1, next_try=?, reason=? WHERE id=?",
                (self.clock() + seconds, reason, letter.id),
            )

    def fail(self, letter: Letter, reason: str) -> None:
        """Give up on it, and on its job."""
        now = self.clock()
        with self.base.transaction() as tell:
            tell("UPDATE outbox SET state='failed', reason=? WHERE id=?", (reason, letter.id))
            tell(
                "UPDATE jobs SET state='failed', reason=?, ended=? WHERE id=? AND state='drawn'",
                (reason, now, letter.job),
            )

    def drop(self, chat: str) -> None:
        """Forget what waits for a chat that the bot was put out of."""
        for row in self.base.rows("SELECT * FROM outbox WHERE state='waiting' AND chat=?", chat):
            self.fail(Letter.of(row), "the bot was blocked or put out of the chat")

"""The queue of jobs: queued -> drawing -> drawn -> delivered | failed | cancelled.

Whoever kills the process finds each job in one of these states, and ``recover`` brings those that
were being drawn back: to drawn where the pictures are whole on the disk, to queued otherwise.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from apps.line_bot.database import Database

ENDED = ("delivered", "failed", "cancelled")
MOST_ATTEMPTS = 8  # a job that ends the process each time must not do so for ever
SHAPES = ("", "portrait", "landscape", "square")
Kind = Literal["text", "photo", "variation", "larger"]


@dataclass(frozen=True)
class Task:
    """What to draw.

    Attributes:
        prompt: The text.
        kind: From what: a text, a user's photo, or a picture of an earlier job.
        count: How many pictures.
        seed: The first picture's; None was not asked for.
        steps: Sampling steps; None is the bot's.
        scale: Guidance; None is the bot's.
        shape: One of ``SHAPES``; empty is the model's own, or the photo's.
        photo: The message that holds the photo.
        source: The job whose picture it starts from.
    """

    prompt: str
    kind: Kind = "text"
    count: int = 1
    seed: int | None = None
    steps: int | None = None
    scale: float | None = None
    shape: str = ""
    photo: str = ""
    source: str = ""

    @classmethod
    def read(cls, text: str) -> Task:
        """Return the task that ``written`` wrote."""
        return cls(**json.loads(text))

    def written(self) -> str:
        """Return the task as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True)
class Origin:
    """The event that asks for something, and where its answer goes.

    Attributes:
        event_id: LINE's for the event; one event makes one job at most.
        user: Who asks.
        chat: Where: the user's id, a group's or a room's.
        sent: When, in seconds since 1970, as LINE says.
        reply_token: Answers the event once; empty if it has been used or there is none.
        message_id: The message's.
    """

    event_id: str
    user: str
    chat: str
    sent: float
    reply_token: str = ""
    message_id: str = ""


@dataclass(frozen=True)
class Job:
    """A job as it is now."""

    id: int
    name: str
    user: str
    chat: str
    language: str
    task: Task
    state: str
    attempts: int
    reason: str = ""
    created: float = 0.0

    @classmethod
    def of(cls, row: sqlite3.Row) -> Job:
        """Read a job from its row."""
        own = {key: row[key] for key in cls.__dataclass_fields__ if key != "task"}
        return cls(task=Task.read(row["task"]), **own)


@dataclass
class Queue:
    """Jobs in the database.

    Attributes:
        base: The database.
        clock: Seconds since 1970.
    """

    base: Database
    clock: Callable[[], float] = field(default=time.time)

    def folder(self, job: Job | str) -> Path:
        """Return where a job's pictures appear, all at once, when they are drawn."""
        name = job if isinstance(job, str) else job.name
        return self.base.folder / "drawn" / name

    def add(self, origin: Origin, language: str, task: Task) -> Job:
        """Queue a job; one that the user cancelled before it came is cancelled from its birth."""
        name, key = secrets.token_hex(16), str(uuid.uuid4())
        with self.base.transaction() as tell:
            tell("INSERT OR IGNORE INTO users (user) VALUES (?)", (origin.user,))
            both = (origin.user, origin.chat)
            person = tell("SELECT max(cancelled) AS c FROM users WHERE user IN (?,?)", both)
            late = origin.sent <= person.fetchone()["c"]
            now = self.clock()
            tell(
                "INSERT INTO jobs (name, event_id, user, chat, message_id, language, task, "
                "reply_token, sent, retry_key, state, created, ended) "
                "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    name,
                    origin.event_id,
                    origin.user,
                    origin.chat,
                    origin.message_id,
                    language,
                    task.written(),
                    origin.reply_token,
                    origin.sent,
                    key,
                    "cancelled" if late else "queued",
                    now,
                    now if late else None,
                ),
            )
        return self.named(name)

    def named(self, name: str) -> Job | None:
        """Return a job by its name, if there is one."""
        row = self.base.row("SELECT * FROM jobs WHERE name=?", name)
        return Job.of(row) if row else None

    def state(self, job: Job) -> str:
        """Return a job's state now."""
        return self.base.row("SELECT state FROM jobs WHERE id=?", job.id)["state"]

    def claim(self) -> Job | None:
        """Take the next job: that of the user whose last turn is the longest ago.

        Of one user's jobs the one sent first comes first; those that were interrupted stand back.
        """
        with self.base.transaction() as tell:
            row = tell(
                "SELECT jobs.* FROM jobs JOIN users USING (user) WHERE state='queued' "
                "ORDER BY users.last_turn, jobs.attempts, jobs.sent, jobs.id LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            tell(
                "UPDATE users SET last_turn=(SELECT max(last_turn)+1 FROM users) WHERE user=?",
                (row["user"],),
            )
            tell(
                "UPDATE jobs SET state='drawing', attempts=attempts+1, began=? WHERE id=?",
                (self.clock(), row["id"]),
            )
        return self.named(row["name"])

    def drawn(self, job: Job) -> bool:
        """Say that a job's pictures are on the disk, and put their delivery into the outbox.

        Returns:
            Whether the job was still wanted.
        """
        with self.base.transaction() as tell:
            changed = tell(
                "UPDATE jobs SET state='drawn', drawn=? WHERE id=? AND state='drawing'",
                (self.clock(), job.id),
            )
            if changed.rowcount == 0:
                return False
            tell(
                "INSERT INTO outbox (job, chat, reply_token, sent, retry_key, created) "
                "SELECT id, chat, reply_token, sent, retry_key, ? FROM jobs WHERE id=?",
                (self.clock(), job.id),
            )
        return True

    def put_back(self, job: Job, *, counts: bool = True) -> None:
        """Queue a job again that could not be drawn now.

        Args:
            job: The job.
            counts: Whether that was an attempt; a full disk is no fault of the job.
        """
        with self.base.transaction() as tell:
            tell(
                "UPDATE jobs SET state='queued', attempts=attempts-? WHERE id=? AND "
                "state='drawing'",
                (0 if counts else 1, job.id),
            )

    def fail(self, job: Job, reason: str) -> bool:
        """End a job that cannot be drawn; return whether it was still wanted."""
        with self.base.transaction() as tell:
            changed = tell(
                "UPDATE jobs SET state='failed', reason=?, ended=? WHERE id=? AND state NOT IN "
                "('delivered','failed','cancelled')",
                (reason, self.clock(), job.id),
            )
        return changed.rowcount > 0

    def cancel(
        self,
        whose: str,
        before: float,
        message_id: str = "",
        *,
        of: Literal["user", "chat"] = "user",
    ) -> list[Job]:
        """Cancel jobs of a user, or of all in a chat, that are not drawn yet.

        Args:
            whose: The user's or the chat's id.
            before: Those that were sent until then; LINE may tell of them only later.
            message_id: Only the job of this message.
            of: Which of the two ``whose`` is.
        """
        with self.base.transaction() as tell:
            if not message_id:
                tell("INSERT OR IGNORE INTO users (user) VALUES (?)", (whose,))
                tell("UPDATE users SET cancelled=max(cancelled, ?) WHERE user=?", (before, whose))
            rows = tell(
                f"SELECT * FROM jobs WHERE {of}=? AND sent<=? AND state IN ('queued','drawing') "
                "AND (?='' OR message_id=?)",
                (whose, before, message_id, message_id),
            ).fetchall()
            for row in rows:
                tell(
                    "UPDATE jobs SET state='cancelled', ended=? WHERE id=?",
                    (self.clock(), row["id"]),
                )
        return [Job.of(row) for row in rows]

    def given_back(self, name: str) -> int:
        """Return how many pictures its user got back for a job: those of a failed drawing."""
        job = self.named(name)
        if job is None or job.state != "failed":
            return 0
        was_drawn = self.base.row("SELECT 1 FROM outbox WHERE job=?", job.id)
        return 0 if was_drawn else job.task.count

    def retry(self, name: str) -> bool:
        """Queue a failed job anew, or deliver it anew if its pictures are still there."""
        job = self.named(name)
        if job is None or job.state != "failed":
            return False
        there = self.folder(job).is_dir()
        with self.base.transaction() as tell:
            if not there:  # a delivery without pictures brings nothing
                tell("DELETE FROM outbox WHERE job=? AND state='failed'", (job.id,))
            waiting = tell(
                "UPDATE outbox SET state='waiting', tries=0, next_try=0, created=?, reason='', "
                "body='' WHERE job=? AND state='failed'",
                (self.clock(), job.id),
            )
            state = "drawn" if waiting.rowcount else "queued"
            tell(
                "UPDATE jobs SET state=?, attempts=0, reason='', ended=NULL WHERE id=?",
                (state, job.id),
            )
        return True

    def recover(self) -> list[Job]:
        """Put in order what an earlier process left being drawn; call before any worker starts.

        Returns:
            The jobs that have failed.
        """
        failed = []
        for row in self.base.rows("SELECT * FROM jobs WHERE state='drawing'"):
            job = Job.of(row)
            if self.folder(job).is_dir():
                self.drawn(job)
            elif job.attempts >= MOST_ATTEMPTS:
                self.fail(job, f"the bot ended {job.attempts} times while it was drawn")
                failed.append(job)
            else:
                self.put_back(job)
        return failed

    def waiting(self, user: str | None = None) -> int:
        """Count the jobs, or a user's jobs, that are queued or being drawn."""
        return self.base.row(
            "SELECT count(*) AS n FROM jobs WHERE state IN ('queued','drawing') "
            "AND (? IS NULL OR user=?)",
            user,
            user,
        )["n"]

    def seconds_each(self) -> float:
        """Return how long the latest jobs took to draw, on average; 0 if there were none."""
        row = self.base.row(
            "SELECT avg(took) AS took FROM (SELECT drawn-began AS took FROM jobs WHERE "
            "drawn IS NOT NULL ORDER BY id DESC LIMIT 20)"
        )
        return row["took"] or 0.0

    def latest(self, chat: str, user: str) -> Job | None:
        """Return the user's newest job in a chat whose pictures were drawn."""
        row = self.base.row(
            "SELECT * FROM jobs WHERE chat=? AND user=? AND state IN ('drawn','delivered') "
            "ORDER BY id DESC LIMIT 1",
            chat,
            user,
        )
        return Job.of(row) if row else None

    def counts(self) -> dict[str, Any]:
        """Return the number of jobs by state."""
        found = self.base.rows("SELECT state, count(*) AS n FROM jobs GROUP BY state")
        return {row["state"]: row["n"] for row in found}

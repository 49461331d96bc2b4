"""Who asks: languages, blocked users, photos that wait for words, and what each has had today."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from apps.line_bot.database import Database

PHOTO_SECONDS = 900.0  # how long a photo waits for the words about it
ASK_AGAIN = 3600.0  # seconds until LINE is asked again for a language that it did not tell
EVERYBODY = ""  # whose quota is the day's


@dataclass
class People:
    """Users in the database.

    Attributes:
        base: The database.
        clock: Seconds since 1970.
    """

    base: Database
    clock: Callable[[], float] = field(default=time.time)

    def meet(self, user: str) -> None:
        """Note that a user was there."""
        with self.base.transaction() as tell:
            tell("INSERT OR IGNORE INTO users (user) VALUES (?)", (user,))
            tell("UPDATE users SET seen=? WHERE user=?", (self.clock(), user))

    def language(self, user: str) -> str:
        """Return the language that LINE told, as ``ja``; empty if that is unknown."""
        row = self.base.row("SELECT language FROM users WHERE user=?", user)
        return row["language"] if row else ""

    def wants_language(self, user: str) -> bool:
        """Whether LINE is to be asked for the user's language."""
        row = self.base.row("SELECT language, language_asked FROM users WHERE user=?", user)
        if row is None or row["language"]:
            return row is None
        return row["language_asked"] is None or self.clock() - row["language_asked"] > ASK_AGAIN

    def speaks(self, user: str, language: str) -> None:
        """Note a user's language; empty notes that LINE did not tell."""
        with self.base.transaction() as tell:
            tell("INSERT OR IGNORE INTO users (user) VALUES (?)", (user,))
            tell(
                "UPDATE users SET language=?, language_asked=? WHERE user=?",
                (language, self.clock(), user),
            )

    def blocked(self, *names: str) -> bool:
        """Whether the operator has blocked a user or a chat."""
        marks = ",".join("?" * len(names))
        query = f"SELECT 1 FROM users WHERE blocked=1 AND user IN ({marks}) LIMIT 1"
        return self.base.row(query, *names) is not None

    def block(self, user: str, *, blocked: bool = True) -> None:
        """Block a user or chat, or let them in again."""
        with self.base.transaction() as tell:
            tell("INSERT OR IGNORE INTO users (user) VALUES (?)", (user,))
            tell("UPDATE users SET blocked=? WHERE user=?", (int(blocked), user))

    def keep_photo(self, user: str, message_id: str, sent: float) -> None:
        """Keep the user's newest photo until they say what to make of it."""
        with self.base.transaction() as tell:
            tell("INSERT OR IGNORE INTO users (user) VALUES (?)", (user,))
            tell(
                "UPDATE users SET photo=?, photo_sent=? WHERE user=? AND photo_sent<=?",
                (message_id, sent, user, sent),
            )

    def photo(self, user: str, sent: float) -> str:
        """Return the message of the photo that a text sent at some time is about; empty if none."""
        row = self.base.row("SELECT photo, photo_sent FROM users WHERE user=?", user)
        fits = row is not None and 0 <= sent - row["photo_sent"] <= PHOTO_SECONDS
        return row["photo"] if fits else ""

    def drop_photo(self, user: str, message_id: str | None = None) -> None:
        """Forget the photo, or only that of a message: its words have come, or it is not wanted."""
        with self.base.transaction() as tell:
            tell(
                "UPDATE users SET photo='' WHERE user=? AND (? IS NULL OR photo=?)",
                (user, message_id, message_id),
            )

    def had(self, user: str) -> int:
        """Return how many pictures a user, or ``EVERYBODY``, has asked for today."""
        row = self.base.row("SELECT pictures FROM quotas WHERE user=? AND day=?", user, self.day())
        return row["pictures"] if row else 0

    def charge(self, user: str, pictures: int) -> None:
        """Count pictures to a user's day and to everybody's; a negative number gives them back."""
        with self.base.transaction() as tell:
            for name in (user, EVERYBODY):
                tell(
                    "INSERT INTO quotas VALUES (?,?,max(0,?)) ON CONFLICT (user, day) DO UPDATE "
                    "SET pictures=max(0, pictures+?)",
                    (name, self.day(), pictures, pictures),
                )

    def day(self) -> str:
        """Return today's date on this machine's clock."""
        return time.strftime("%Y-%m-%d", time.localtime(self.clock()))


@dataclass
class Warnings:
    """What the operator should know, each kind once however often it comes."""

    base: Database
    clock: Callable[[], float] = field(default=time.time)

    def say(self, kind: str, text: str) -> bool:
        """Note a warning; return whether it is new in this hour."""
        now = self.clock()
        with self.base.transaction() as tell:
            row = tell("SELECT last FROM warnings WHERE kind=?", (kind,)).fetchone()
            tell(
                "INSERT INTO warnings (kind, text, last) VALUES (?,?,?) ON CONFLICT "
                "(kind) DO UPDATE SET text=excluded.text, last=excluded.last, times=times+1",
                (kind, text, now),
            )
        return row is None or now - row["last"] > 3600.0

    def over(self, kind: str) -> None:
        """Note that it is over."""
        with self.base.transaction() as tell:
            tell("DELETE FROM warnings WHERE kind=?", (kind,))

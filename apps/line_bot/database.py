"""The bot's one file of facts: SQLite with a single connection, and short transactions.

What was committed is on the disk (WAL, synchronous=FULL), so the process may be killed anywhere.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ldm.errors import UserError

logger = logging.getLogger(__name__)
VERSION = 1
PAUSE = 1.0  # seconds between tries to write what has happened already
PATIENCE = 5.0  # seconds to wait for another program, such as a backup, that holds the file
SCHEMA = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, body TEXT NOT NULL,
    received REAL NOT NULL, state TEXT NOT NULL DEFAULT 'new', reason TEXT NOT NULL DEFAULT '');
CREATE INDEX new_events ON events (state, id);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, event_id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL, chat TEXT NOT NULL, message_id TEXT NOT NULL DEFAULT '',
    language TEXT NOT NULL, task TEXT NOT NULL,
    reply_token TEXT NOT NULL DEFAULT '', sent REAL NOT NULL, retry_key TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'queued', reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, began REAL, drawn REAL,
    ended REAL);
CREATE INDEX jobs_by_state ON jobs (state, user, id);
CREATE INDEX jobs_by_user ON jobs (user, id);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY, job INTEGER REFERENCES jobs (id), chat TEXT NOT NULL,
    reply_token TEXT NOT NULL DEFAULT '', sent REAL NOT NULL, retry_key TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT 'waiting',
    reply_tried REAL, push_tried REAL, tries INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0, created REAL NOT NULL, reason TEXT NOT NULL DEFAULT '');
CREATE INDEX outbox_due ON outbox (state, next_try);
CREATE TABLE users (
    user TEXT PRIMARY KEY, language TEXT NOT NULL DEFAULT '', language_asked REAL,
    blocked INTEGER NOT NULL DEFAULT 0, last_turn INTEGER NOT NULL DEFAULT 0,
    cancelled REAL NOT NULL DEFAULT -1, photo TEXT NOT NULL DEFAULT '',
    photo_sent REAL NOT NULL DEFAULT 0, seen REAL NOT NULL DEFAULT 0);
CREATE TABLE quotas (
    user TEXT NOT NULL, day TEXT NOT NULL, pictures INTEGER NOT NULL, PRIMARY KEY (user, day));
CREATE TABLE pictures (
    name TEXT PRIMARY KEY, handle TEXT NOT NULL, expires REAL NOT NULL);
CREATE INDEX pictures_by_age ON pictures (expires);
CREATE TABLE warnings (
    kind TEXT PRIMARY KEY, text TEXT NOT NULL, last REAL NOT NULL,
    times INTEGER NOT NULL DEFAULT 1);
"""


class Database:
    """The file and its only connection, which threads share one transaction at a time.

    Args:
        folder: Where it lies; made if it is not there.

    Raises:
        UserError: another bot works in the folder, or the file is another version's.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._held = _hold(self.folder / "bot.lock")
        self._turn = threading.RLock()
        self._connection = sqlite3.connect(
            self.folder / "bot.db", timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        self._prepare()

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA foreign_keys=ON")
        with self.transaction() as tell:
            version = tell("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise UserError(
                    f"{self.folder / 'bot.db'} has version {version}; expected {VERSION}; give "
                    "another --data folder"
                )
            if version == 0:
                for statement in filter(str.strip, SCHEMA.split(";")):
                    tell(statement)
                tell(f"PRAGMA user_version={VERSION}")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        """Yield ``execute``; what it does is kept as a whole when the block ends, or not at all.

        A transaction inside another one is part of that.

        Raises:
            sqlite3.OperationalError: the file is locked by another program, or the disk is full.
        """
        with self._turn:
            if self._connection.in_transaction:
                yield self._connection.execute
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has rolled back already
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        with self._turn:
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """Return the first row of a query, if there is one."""
        with self._turn:
            return self._connection.execute(query, values).fetchone()

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            self._connection.close()
            self._held.close()


def surely(act: Callable[[], object], stop: threading.Event) -> None:
    """Write what has happened, and repeat it while the file is locked or the disk is full.

    Args:
        act: Writes; what it leaves behind when it fails is nothing.
        stop: The bot's end, at which it is given up: the next start finds what is not noted.
    """
    while True:
        try:
            act()
            return
        except sqlite3.OperationalError as error:
            logger.warning("the database cannot be written now: %s", error)
            if stop.wait(PAUSE):
                return


def _hold(path: Path) -> Any:
    """Keep a file to this process alone; the system lets go of it however the process ends."""
    held = path.open("a+b")
    try:
        import fcntl
    except ImportError:  # Windows has another way
        import msvcrt

        act = lambda: msvcrt.locking(held.fileno(), msvcrt.LK_NBLCK, 1)  # noqa: E731
    else:
        act = lambda: fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # noqa: E731
    try:
        act()
    except OSError:
        held.close()
        raise UserError(
            f"another bot works in {path.parent}; expected a folder for each; end it, or give "
            "another --data folder"
        ) from None
    return held

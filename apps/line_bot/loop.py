"""The loop that each of the bot's threads runs: a step at a time, as long as there are any."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)
PAUSE = 0.5  # seconds between looks into the database that nobody asked for
LOCKED = 1.0  # seconds until a database that cannot be written is tried again


def run_steps(step: Callable[[], bool], stop: threading.Event, news: threading.Event) -> None:
    """Take steps until ``stop``.

    Args:
        step: Takes one; returns whether there may be another.
        stop: Ends the loop.
        news: Set when there is something new to do.
    """
    while not stop.is_set():
        try:
            while not stop.is_set() and step():
                pass
        except sqlite3.OperationalError as error:  # locked by a backup, or the disk is full
            logger.warning("the database cannot be written now: %s", error)
            stop.wait(LOCKED)
        news.wait(PAUSE)
        news.clear()

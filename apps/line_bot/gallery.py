"""A job's pictures: drawn files in, addresses out; and what is too old is removed."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from apps.line_bot.database import Database
from apps.line_bot.jobs import ENDED, Job, Queue
from apps.line_bot.pictures import (
    LARGEST,
    LARGEST_PREVIEW,
    PictureStore,
    fit_jpeg,
    preview_of,
)
from ldm.errors import UserError
from ldm.images.io import load_image
from ldm.images.metadata import read_parameters

logger = logging.getLogger(__name__)
FLAGGED = ".flagged"  # ending of the file beside a picture that was blacked out
UNKNOWN = "unknown_words.txt"  # beside the pictures: those of the prompt that mean nothing
EVENTS_KEPT = 7 * 86_400.0  # seconds; LINE sends nothing again after that


class PicturesGone(Exception):
    """A job's drawn files are not there, so nothing can be delivered."""


@dataclass
class Gallery:
    """The pictures of all jobs.

    Attributes:
        base: The database.
        queue: Knows where jobs' pictures are.
        store: Gives them addresses.
        keep: How long they are kept, in seconds.
        clock: Seconds since 1970.
    """

    base: Database
    queue: Queue
    store: PictureStore
    keep: float
    clock: Callable[[], float] = field(default=time.time)

    def publish(self, job: Job) -> list[tuple[str, str]]:
        """Give a job's pictures addresses; a second time they get the same.

        Returns:
            The address of each picture and of its preview.

        Raises:
            PicturesGone: The drawn files are not there.
            OSError: The store cannot take them now.
        """
        found = []
        for index, path in enumerate(self._files(job)):
            try:
                image, parameters = load_image(path), read_parameters(path)
            except UserError as error:
                raise PicturesGone(str(error)) from error
            data = fit_jpeg(image, LARGEST, parameters)
            preview = fit_jpeg(preview_of(image), LARGEST_PREVIEW)
            found.append(
                (self._put(job, f"{index}", data), self._put(job, f"{index} preview", preview))
            )
        return found

    def flagged(self, job: Job) -> int:
        """Return how many of a job's pictures the safety checker blacked out."""
        return len(list(self.queue.folder(job).glob(f"*{FLAGGED}")))

    def unknown_words(self, job: Job) -> list[str]:
        """Return words of a job's prompt that the model does not know."""
        try:
            return (self.queue.folder(job) / UNKNOWN).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def recipe(self, job: Job) -> str | None:
        """Return how a job's first picture was made; None if that is gone."""
        try:
            return read_parameters(self._files(job)[0])
        except (PicturesGone, UserError):
            return None

    def expires(self, name: str) -> float | None:
        """Return when a picture's time is over, in seconds since 1970; None if there is none."""
        row = self.base.row("SELECT expires FROM pictures WHERE name=?", name)
        return row["expires"] if row else None

    def _files(self, job: Job) -> list[Path]:
        files = sorted(self.queue.folder(job).glob("*.png"))
        if not files:
            raise PicturesGone("the drawn pictures are not there any more")
        return files

    def _put(self, job: Job, which: str, data: bytes) -> str:
        """Store one picture under a name that follows from its job's, which nobody else knows."""
        key = self.base.row("SELECT retry_key FROM jobs WHERE id=?", job.id)["retry_key"]
        secret = f"{key} {job.name} {which}".encode()
        name = hashlib.sha256(secret).hexdigest()[:32]
        known = self.base.row("SELECT handle FROM pictures WHERE name=?", name)
        handle = known["handle"] if known else self.store.put(name, data)
        with self.base.transaction() as tell:
            tell(
                "INSERT INTO pictures VALUES (?,?,?) ON CONFLICT (name) DO UPDATE SET "
                "expires=excluded.expires",
                (name, handle, self.clock() + self.keep),
            )
        return self.store.url(handle)

    def clean(self) -> None:
        """Remove what is older than it may be kept."""
        now = self.clock()
        for row in self.base.rows("SELECT * FROM pictures WHERE expires<?", now):
            try:
                self.store.remove(row["handle"])
            except OSError as error:
                logger.warning("a picture could not be removed now: %s", type(error).__name__)
                continue
            with self.base.transaction() as tell:
                tell("DELETE FROM pictures WHERE name=?", (row["name"],))
        old = now - self.keep
        marks = ",".join("?" * len(ENDED))
        query = f"SELECT id, name FROM jobs WHERE state IN ({marks}) AND ended<?"
        for row in self.base.rows(query, *ENDED, old):
            shutil.rmtree(self.queue.folder(row["name"]), ignore_errors=True)
            with self.base.transaction() as tell:
                tell("DELETE FROM outbox WHERE job=?", (row["id"],))
                tell("DELETE FROM jobs WHERE id=?", (row["id"],))
        self._forget(now, old)

    def _forget(self, now: float, old: float) -> None:
        with self.base.transaction() as tell:
            tell("DELETE FROM events WHERE state!='new' AND received<?", (now - EVENTS_KEPT,))
            tell("DELETE FROM outbox WHERE job IS NULL AND state!='waiting' AND created<?", (old,))
            tell("DELETE FROM quotas WHERE day<?", (time.strftime("%Y-%m-%d", time.gmtime(old)),))
        photos = self.base.folder / "photos"
        for path in photos.glob("*") if photos.is_dir() else ():
            if path.stat().st_mtime < old:
                path.unlink(missing_ok=True)

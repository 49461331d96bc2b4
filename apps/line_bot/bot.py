"""The whole bot: its parts put together, and their threads from start to end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from apps.line_bot.database import Database
from apps.line_bot.delivery import Courtesy, Delivery
from apps.line_bot.gallery import Gallery
from apps.line_bot.intake import Intake
from apps.line_bot.jobs import Queue
from apps.line_bot.line_api import LineApi
from apps.line_bot.outbox import Outbox
from apps.line_bot.people import People, Warnings
from apps.line_bot.pictures import OwnPictures, PictureStore
from apps.line_bot.refused import Refused
from apps.line_bot.settings import BotSettings, Secrets
from apps.line_bot.worker import Draw, Worker
from ldm.errors import in_words

logger = logging.getLogger(__name__)
CLEANING = 600.0  # seconds between looks for what is too old
PATIENCE = 3.0  # seconds for each thread to end


class News:
    """One event for each thread that may have something new to do."""

    def __init__(self) -> None:
        self._events: list[threading.Event] = []

    def subscribe(self) -> threading.Event:
        """Return an event that ``spread`` sets."""
        self._events.append(threading.Event())
        return self._events[-1]

    def spread(self) -> None:
        """Wake all threads."""
        for each in self._events:
            each.set()


@dataclass
class Bot:
    """The bot's parts.

    Attributes:
        settings: The operator's.
        base: The database; this process alone works with it.
        line: LINE's API.
    """

    settings: BotSettings
    base: Database
    line: LineApi
    queue: Queue
    outbox: Outbox
    people: People
    warnings: Warnings
    gallery: Gallery
    intake: Intake
    delivery: Delivery
    news: News = field(default_factory=News)
    stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _drawing: int = 0

    def start(self, load: list[Callable[[], Draw]]) -> None:
        """Put in order what an earlier process left, and start to work.

        Args:
            load: Loads a model, for each device; called in the thread that draws with it.
        """
        for job in self.queue.recover():
            self.people.charge(job.user, -job.task.count)
        self._begin("intake", self.intake.run)
        self._begin("delivery", self.delivery.run)
        self._begin("cleaning", self._clean)
        for number, each in enumerate(load):
            self._begin(f"worker {number}", partial(self._work, each))

    def end(self) -> None:
        """End all threads; what one is drawing is drawn anew at the next start."""
        self.stop.set()
        self.news.spread()
        for each in self._threads:
            each.join(PATIENCE)
        if not any(each.is_alive() for each in self._threads):
            self.base.close()

    def alive(self) -> dict[str, object]:
        """Return whether all threads run, and how much waits."""
        dead = [each.name for each in self._threads if not each.is_alive()]
        found: dict[str, object] = {"ok": not dead, "waiting": self.queue.waiting()}
        found["ready"] = self._drawing > 0
        return found | ({"ended": dead} if dead else {})

    def _begin(self, name: str, run: Callable[[threading.Event, threading.Event], None]) -> None:
        args = (self.stop, self.news.subscribe())
        thread = threading.Thread(target=run, args=args, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self, load: Callable[[], Draw], stop: threading.Event, news: threading.Event) -> None:
        try:
            draw = load()
        except Exception as error:
            logger.error("the model could not be loaded: %s", in_words(error))
            self.warnings.say("model", f"the model could not be loaded: {in_words(error)}")
            return  # /healthz tells that this thread has ended
        self._drawing += 1
        worker = Worker(self.queue, self.outbox, self.people, self.warnings, draw, self.news.spread)
        try:
            worker.run(stop, news)
        finally:
            getattr(draw, "close", lambda: None)()

    def _clean(self, stop: threading.Event, _: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.gallery.clean()
            except Exception as error:  # tried again; the picture's time is over all the same
                logger.warning("cleaning was interrupted: %s", in_words(error))
            stop.wait(CLEANING)


def make_bot(
    settings: BotSettings, secrets: Secrets, *, line: Any = None, store: PictureStore | None = None
) -> Bot:
    """Put a bot together; nothing runs yet.

    Args:
        settings: The operator's.
        secrets: The channel's, and others.
        line: In place of LINE's API.
        store: In place of the one that the settings name.

    Raises:
        UserError: another bot works in the folder, or a file of the settings cannot be read.
    """
    refused = Refused.of(settings.refused_words)
    base = Database(settings.data)
    line = line or LineApi(secrets.line_channel_access_token, settings.line_api, settings.line_data)
    queue, outbox = Queue(base), Outbox(base)
    people, warnings, news = People(base), Warnings(base), News()
    store = store or make_store(settings, secrets, base)
    gallery = Gallery(base, queue, store, settings.keep_hours * 3600)
    intake = Intake(
        base, settings, Courtesy(line), queue, outbox, people, warnings, refused,
        gallery.recipe, news.spread,
    )  # fmt: skip
    delivery = Delivery(
        line, outbox, gallery, warnings, settings.reply_seconds, settings.give_up_hours * 3600
    )
    return Bot(
        settings, base, line, queue, outbox, people, warnings, gallery, intake, delivery, news
    )


def make_store(settings: BotSettings, secrets: Secrets, base: Database) -> PictureStore:
    """Return the store of pictures that the settings name.

    Raises:
        UserError: its package is missing, or its address is not https.
    """
    if settings.store == "s3":
        from apps.line_bot.s3_pictures import S3Pictures

        return S3Pictures.of(settings, secrets)
    if settings.store == "imgur":
        from apps.line_bot.imgur_pictures import ImgurPictures

        return ImgurPictures(secrets.imgur_client_id)
    return OwnPictures(base.folder / "pictures", settings.public_base_url or "")

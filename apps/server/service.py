"""One model that draws for everybody: jobs in, batches of what fits together, pictures out.

    submit -> checked at once -> a lane for each key -> batch of one group -> drawn -> PNG -> ticket

    service = Service(load, Limits())
    service.start()
    ticket = service.submit(Txt2ImgSettings(prompt="a red apple", n_samples=1, n_iter=1), "anna")
    pictures = await ticket.finished()      # or ticket.wait(); ticket.check(); ticket.pictures

Front ends turn requests into settings and call ``submit``; nothing else draws.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apps.server.artist import Artist
from apps.server.asking import TextJob, settings_of
from apps.server.desk import Desk, Terms
from apps.server.drawing import Drawer, single
from apps.server.kept import Kept
from apps.server.refused import Refused
from apps.server.tickets import Row, Ticket
from ldm.errors import UserError, in_words
from ldm.settings.generation import GenerationSettings
from ldm.settings.suiting import suited_to
from optimizedSD.web.limits import Limits

if TYPE_CHECKING:
    from PIL import Image

    from ldm.pipelines.masks import Mask
    from ldm.pipelines.models import ModelChoice
    from ldm.pipelines.request import Request

logger = logging.getLogger(__name__)
FULL = "the queue is full"
MOST_FAULTS = 5  # pictures in a row that fail by no fault of their requests


class Service(Desk):
    """Draws for everybody; every method may be called from any thread.

    Args:
        load: Loads what draws; called in the thread that draws.
        limits: What one job may ask for.
        terms: How the model is shared.
        fixed: Settings of every job, which the operator chose.
        kept: Where jobs and their pictures stay.
        tell: Called when the model is loaded, with None, or cannot be, with the error.
        clock: In seconds.

    Attributes:
        loaded: Set once the model is loaded, or cannot be.
    """

    def __init__(
        self,
        load: Callable[[], Drawer],
        limits: Limits | None = None,
        terms: Terms | None = None,
        *,
        fixed: Mapping[str, Any] | None = None,
        kept: Kept | None = None,
        tell: Callable[[Exception | None], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(limits or Limits(), terms or Terms(), kept or Kept(), clock)
        self.fixed = dict(fixed or {})
        self._load, self._tell, self._error = load, tell, ""
        self.loaded = threading.Event()
        self._preparing = threading.Lock()
        self._artist = Artist(self)
        self._thread = threading.Thread(target=self._run, name="draws", daemon=True)
        self.metrics.watch(
            waiting=lambda: self.waiting,
            kept=lambda: len(self.kept),
            held=lambda: self.kept.held,
            ready=lambda: not self.obstacle,
        )

    # Its life.

    def start(self) -> None:
        """Load the model and begin to draw, in a thread of its own."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self.drawer = self._load()
        except Exception as error:
            if not isinstance(error, UserError):
                logger.exception("the model cannot be loaded")
            self._error = str(error) if isinstance(error, UserError) else in_words(error)
            self._tell(error)
            return
        finally:
            self.loaded.set()
        self._tell(None)
        self._artist.run(self.drawer.at_once)

    @property
    def alive(self) -> bool:
        """Whether the thread that draws is at work, or loads the model."""
        return self._thread.is_alive()

    @property
    def healthy(self) -> bool:
        """Whether it draws, or will: a device that has failed fails for every picture."""
        return self.alive and self.faults < MOST_FAULTS

    @property
    def obstacle(self) -> str:
        """Why no job is taken now; empty if one is."""
        if self.draining:
            return "the server is shutting down"
        if self._error:
            return "the model cannot be loaded"
        if self.drawer is None:
            return "the model is being loaded"
        return FULL if self.waiting >= self.terms.queued else ""

    @property
    def choice(self) -> ModelChoice:
        """The model.

        Raises:
            Refused: It is not loaded yet.
        """
        if self.drawer is None:
            self.check_taking()
        return self.drawer.choice

    def settings(
        self, fields: Mapping[str, Any], schema: type[GenerationSettings] = TextJob
    ) -> GenerationSettings:
        """Return the settings of a request's fields, with the operator's and the model's own.

        Args:
            fields: By the settings' names, as JSON has them.
            schema: ``TextJob``, ``PictureJob`` or ``MaskJob``.

        Raises:
            UserError: As ``asking.settings_of``.
            Refused: The model is not loaded yet.
        """
        own = self.choice.sampling  # raises before the fields are read
        named = {*self.fixed, *fields}
        return suited_to(settings_of(fields, schema, self.fixed), own, named)

    def drain(self) -> None:
        """Take no more jobs and hand back those that wait; what is being drawn is finished."""
        with self.moved:
            self.draining = True
            rows = self.lanes.clear()
            self.moved.notify_all()
        for ticket in dict.fromkeys(row.ticket for row in rows):
            if ticket.hand_back(retry_after=10):
                self.ended(ticket, "handed back")

    def close(self, patience: float) -> bool:
        """Drain, and wait until the thread that draws has ended; return whether it has in time."""
        self.drain()
        if self._thread.ident is not None:
            self._thread.join(patience)
        return not self._thread.is_alive()

    # Jobs.

    def prepare(
        self,
        settings: GenerationSettings,
        *,
        image: Image.Image | None = None,
        mask: Image.Image | Mask | None = None,
    ) -> list[Request]:
        """Complete and check a job: a request for each of its pictures.

        Args:
            settings: Those of the whole job; picture i has their seed plus i.
            image: What to start from.
            mask: The part to repaint, in white.

        Raises:
            UserError: The settings cannot be drawn, or are more than the limits allow.
            Refused: The model is not loaded yet.
        """
        settings.validate()
        self.limits.check(settings)
        self.check_taking()
        with self._preparing:  # dictionaries of translators and shelves of adapters are shared
            alone = single(settings)
            first = self.drawer.prepare(alone[0], image=image, mask=mask)
        height, width = first.size  # the limits know of a second walk's
        self.limits.check_size(first.settings, width, height)
        if settings.wildcards is None:
            return [first, *(_with_seeds(first, each) for each in alone[1:])]
        with self._preparing:  # each has a prompt of its own
            rest = [self.drawer.prepare(each, image=image, mask=mask) for each in alone[1:]]
        return [first, *rest]

    def submit(self, settings: GenerationSettings, key: str = "", **pictures: Any) -> Ticket:
        """Check a job and put it into its key's lane.

        Args:
            settings: What to draw: ``n_iter`` times ``n_samples`` pictures.
            key: Whose it is.
            **pictures: ``image`` and ``mask``, as for ``prepare``.

        Raises:
            UserError: As ``prepare``.
            Refused: The queue is full, the key has its share of it, or no job is taken now.
        """
        self.check_room(settings, key)  # before work is put into it
        return self.enqueue(self.prepare(settings, **pictures), key)

    def enqueue(self, requests: Sequence[Request], key: str = "") -> Ticket:
        """Put a job that was prepared into its key's lane; raises as ``submit``."""
        ticket, now = Ticket(key, len(requests)), self.clock()
        told = requests if requests[0].templates else requests[:1]  # the others are as the first
        for text in dict.fromkeys(text for each in told for text in self.drawer.notices(each)):
            ticket.note(text)
        rows = [
            Row(ticket, index, request, self.drawer.group(request), cost_of(request), now)
            for index, request in enumerate(requests)
        ]
        with self.moved:
            self._check_room(key, len(rows))
            self.lanes.add(rows)
            self.kept.add(ticket)
            self.moved.notify_all()
        return ticket

    def check_room(self, settings: GenerationSettings, key: str = "") -> None:
        """Check that a job's pictures may wait, before anything is done for it.

        Raises:
            UserError: The settings cannot be drawn.
            Refused: As ``submit``.
        """
        settings.validate()
        with self.moved:
            self._check_room(key, settings.n_iter * settings.n_samples)

    def check_taking(self) -> None:
        """Raise ``Refused`` unless jobs are taken, be the queue full or not."""
        if (obstacle := self.obstacle) not in ("", FULL):
            raise Refused(503, f"{obstacle}; try again later", retry_after=5)

    def _check_room(self, key: str, count: int) -> None:
        terms = self.terms
        self.check_taking()
        if count > min(terms.queued, terms.queued_of_key):
            raise UserError(
                f"{count} pictures were given; expected at most "
                f"{min(terms.queued, terms.queued_of_key)}, as so many of a key may wait; give less"
            )
        waiting, own = len(self.lanes), self.lanes.of(key)
        if own + count > terms.queued_of_key:
            excess, whose = own + count - terms.queued_of_key, f"{own} pictures of your key"
            excess = min(waiting, excess * self.lanes.count)  # the others have their turns between
        elif waiting + count > terms.queued:
            excess, whose = waiting + count - terms.queued, f"{waiting} pictures"
        else:
            return
        self.metrics.turned_away()
        raise Refused(
            429,
            f"{whose} wait already; expected room for {count} more; try again later",
            retry_after=self._seconds_for(excess),
        )

    def _seconds_for(self, pictures: int) -> int:
        """Return how long so many of the pictures that wait will take."""
        share = self.lanes.cost * pictures / max(len(self.lanes), 1)
        return self.pace.seconds(share / self.drawer.at_once)  # the pace is that of one batch

    def find(self, name: str, key: str = "") -> Ticket:
        """Return a job of a key by its id; raises ``Refused`` 404 as ``Kept.find``."""
        return self.kept.find(name, key)

    def ahead(self, ticket: Ticket) -> int:
        """Return about how many pictures are drawn before a job's next one."""
        with self.moved:
            return self.lanes.ahead(ticket)

    def cancel(self, ticket: Ticket) -> bool:
        """Cancel a job; return whether it had not ended. A batch nobody waits for is stopped."""
        with self.moved:
            self.lanes.drop(ticket)
        cancelled = ticket.cancel()
        if cancelled:
            self.ended(ticket, "cancelled")
        return cancelled


def cost_of(request: Request) -> float:
    """Return what drawing a picture costs, in millions of pixels times steps."""
    return request.pixel_steps / 1e6


def _with_seeds(request: Request, settings: GenerationSettings) -> Request:
    seeds = {"seed": settings.seed, "subseed": settings.subseed}
    return replace(request, settings=replace(request.settings, **seeds))

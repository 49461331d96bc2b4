"""Post events to the bot, and again when it does not answer 200 in time.

LINE waits one second for the answer, then counts the webhook as failed. With redelivery switched on
in the console it sends the same events later, for a while; how often and when it does not say.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from apps.line_bot.simulate.calling import new_client
from apps.line_bot.simulate.events import Event, payload, redelivered, sign
from apps.line_bot.simulate.switches import Switches

PATIENCE = 1.0  # seconds that LINE waits for the bot's answer
REDELIVER_AFTER = (2.0, 10.0, 60.0)  # seconds after the attempt before
LOOK_EVERY = 0.05  # seconds between looks at the clock, which need not be the wall's


@dataclass
class Attempt:
    """One request to the bot.

    Args:
        status: The bot's answer, or None where none came in time.
        seconds: Until the answer, or until nobody waited any more.
        fault: What went wrong, in words; empty for an answer of 200.
    """

    status: int | None
    seconds: float
    fault: str = ""


@dataclass
class Delivery:
    """Events on their way to the bot, with every attempt made so far."""

    events: list[Event]
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def arrived(self) -> bool:
        """Whether the bot has answered one of the attempts with 200."""
        return any(attempt.status == 200 for attempt in self.attempts)


class Webhooks:
    """Posts to one bot, signed with the channel's secret.

    Args:
        secret: The channel's.
        destination: The bot's user id.
        switches: Says whether to redeliver.
        clock: Returns seconds; when to redeliver is decided by it.
        patience: Seconds of real time to wait for an answer.
        redeliver_after: Seconds between attempts; as many redeliveries as there are numbers.
    """

    def __init__(
        self,
        secret: str,
        destination: str,
        switches: Switches,
        clock: Callable[[], float],
        *,
        patience: float = PATIENCE,
        redeliver_after: Sequence[float] = REDELIVER_AFTER,
    ) -> None:
        self._secret, self._destination = secret, destination
        self._switches, self._clock = switches, clock
        self._pauses = tuple(redeliver_after)
        self.bot_url: str | None = None
        self.deliveries: list[Delivery] = []
        self._due: list[tuple[float, Delivery]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._client = new_client(patience)
        self._thread = threading.Thread(target=self._redeliver, name="redelivery", daemon=True)

    def start(self) -> None:
        """Begin to redeliver."""
        self._thread.start()

    def end(self) -> None:
        """Redeliver no more."""
        self._ended.set()
        self._thread.join()
        self._client.close()

    def deliver(self, events: Sequence[Event]) -> Delivery:
        """Post events, all in one body, and wait for the answer to this first attempt."""
        delivery = Delivery(list(events))
        with self._lock:
            self.deliveries.append(delivery)
        self._attempt(delivery, delivery.events)
        return delivery

    def redeliver(self, delivery: Delivery) -> Attempt:
        """Post events again, whatever became of them, and wait for the answer."""
        return self._attempt(delivery, redelivered(delivery.events))

    def post(self, body: bytes, signature: str | None) -> Attempt:
        """Post any bytes under any signature, or under none: what others than LINE may send."""
        headers = {"content-type": "application/json; charset=utf-8"}
        if signature is not None:
            headers["x-line-signature"] = signature
        if self.bot_url is None:
            return Attempt(None, 0.0, "no bot is connected")
        began = time.monotonic()
        try:
            answer = self._client.post(self.bot_url, content=body, headers=headers)
        except httpx.TimeoutException:
            return Attempt(None, time.monotonic() - began, "no answer in time")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fault = f"the bot cannot be reached: {type(error).__name__}"
            return Attempt(None, time.monotonic() - began, fault)
        status = answer.status_code
        fault = "" if status == 200 else f"the bot answered {status}"
        return Attempt(status, time.monotonic() - began, fault)

    def _attempt(self, delivery: Delivery, events: Sequence[Event]) -> Attempt:
        body = payload(self._destination, events)
        attempt = self.post(body, sign(self._secret, body))
        with self._lock:
            delivery.attempts.append(attempt)
            tried = len(delivery.attempts)
            if not delivery.arrived and self._switches.redelivery and tried <= len(self._pauses):
                self._due.append((self._clock() + self._pauses[tried - 1], delivery))
        return attempt

    def _redeliver(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            with self._lock:
                now = self._clock()
                ripe = [delivery for due, delivery in self._due if due <= now]
                self._due = [each for each in self._due if each[0] > now]
            for delivery in ripe:
                self.redeliver(delivery)

"""Jobs by their ids: those that are under way, and as many ended ones as may be kept. No torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from apps.server.refused import Refused
from apps.server.tickets import Ticket


@dataclass
class Kept:
    """Jobs with their pictures; the oldest that have ended are forgotten first.

    Attributes:
        jobs: How many that have ended are kept.
        bytes: How much memory their pictures may take.
        seconds: How long one is kept after its end.
        clock: In seconds.
    """

    jobs: int = 1000
    bytes: int = 2**29
    seconds: float = 3600.0
    clock: Callable[[], float] = time.monotonic
    _jobs: dict[str, Ticket] = field(default_factory=dict)
    _ended: dict[str, tuple[float, int]] = field(default_factory=dict)  # in the order of their ends
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, ticket: Ticket) -> None:
        """Keep a job from now on."""
        with self._lock:
            self._jobs[ticket.id] = ticket

    def end(self, ticket: Ticket) -> None:
        """Note that a job has ended; forget what is too much or too old."""
        with self._lock:
            if ticket.id in self._jobs and ticket.id not in self._ended:
                self._ended[ticket.id] = (self.clock(), ticket.bytes)
            self._forget()

    def find(self, name: str, key: str) -> Ticket:
        """Return a job of a key.

        Raises:
            Refused: There is none, it is another key's, or it is not kept any more.
        """
        with self._lock:
            self._forget()
            ticket = self._jobs.get(name)
        if ticket is None or ticket.key != key:
            raise Refused(
                404, "there is no such job, or it is not kept any more; expected the id of your own"
            )
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Forget a job."""
        with self._lock:
            self._jobs.pop(ticket.id, None)
            self._ended.pop(ticket.id, None)

    def awaited(self, since: float) -> bool:
        """Return whether a job is under way, or has ended since then and was not fetched yet.

        Nobody comes for one that was cancelled, or handed back: asking for that is answered by 503.

        Args:
            since: In seconds of the clock.
        """
        with self._lock:
            return any(
                name not in self._ended or (self._ended[name][0] >= since and ticket.left_to_fetch)
                for name, ticket in self._jobs.items()
            )

    @property
    def held(self) -> int:
        """The bytes of pictures that are kept."""
        with self._lock:
            return sum(size for _, size in self._ended.values())

    def __len__(self) -> int:
        return len(self._jobs)

    def _forget(self) -> None:
        held = sum(size for _, size in self._ended.values())
        for name, (ended, size) in list(self._ended.items()):
            old = self.clock() - ended > self.seconds
            if not old and len(self._ended) <= self.jobs and held <= self.bytes:
                return
            held -= size
            del self._ended[name], self._jobs[name]

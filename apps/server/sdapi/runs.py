"""The requests of each key that are being answered: how far they are, and their interruption."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from apps.server.tickets import Ticket

if TYPE_CHECKING:
    from apps.server.service import Service


class Runs:
    """Jobs that somebody waits for, by key. Used in the event loop's thread alone.

    Args:
        service: What draws them.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._running: dict[str, dict[Ticket, int]] = {}

    @contextlib.contextmanager
    def following(self, ticket: Ticket, steps: int) -> Iterator[None]:
        """Count a job among its key's as long as the block lasts.

        Args:
            ticket: The job.
            steps: Sampling steps of each of its pictures.
        """
        own = self._running.setdefault(ticket.key, {})
        own[ticket] = steps
        try:
            yield
        finally:
            del own[ticket]
            if not own:
                self._running.pop(ticket.key, None)

    def interrupt(self, key: str) -> None:
        """Cancel the jobs of a key; what of them is finished is sent."""
        for ticket in list(self._running.get(key, ())):
            self._service.cancel(ticket)

    def progress(self, key: str) -> dict[str, Any]:
        """Return how far the oldest job of a key is, as ``/sdapi/v1/progress`` says it."""
        ticket, steps = next(iter(self._running.get(key, {}).items()), (None, 0))
        if ticket is None:
            return _shown(0.0, 0.0, _state("", 0, 0, 0.0, 0, 0))
        seen = ticket.snapshot()
        elapsed = time.time() - ticket.created
        left = elapsed * (1 / seen.fraction - 1) if seen.fraction else 0.0
        step = int((seen.fraction * seen.total - seen.done) * steps)
        state = _state(ticket.id, seen.total, seen.done, ticket.created, max(step, 0), steps)
        return _shown(seen.fraction, left, state)


def _shown(progress: float, left: float, state: dict[str, Any]) -> dict[str, Any]:
    return {
        "progress": progress,
        "eta_relative": left,
        "state": state,
        "current_image": None,
        "textinfo": None,
    }


def _state(
    job: str, count: int, number: int, created: float, step: int, steps: int
) -> dict[str, Any]:
    began = datetime.fromtimestamp(created) if created else None
    return {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": job,
        "job_count": count,
        "job_no": number,
        "job_timestamp": f"{began:%Y%m%d%H%M%S}" if began else "0",
        "sampling_step": step,
        "sampling_steps": steps,
    }

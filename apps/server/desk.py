"""What the service and the thread that draws share. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from apps.server.drawing import Drawer
from apps.server.kept import Kept
from apps.server.lanes import Lanes
from apps.server.metrics import Metrics
from apps.server.pace import Pace
from apps.server.tickets import Ticket
from optimizedSD.web.limits import Limits


@dataclass(frozen=True)
class Terms:
    """How the service shares the model out.

    Attributes:
        batch_size: The most pictures that are drawn at a time.
        max_wait: Seconds that a picture waits for others to be drawn with, if nothing else waits.
        queued: How many pictures may wait in all.
        queued_of_key: How many of one key may wait.
        device: Where networks that enlarge pictures compute, beside the model.
    """

    batch_size: int = 8
    max_wait: float = 0.05
    queued: int = 200
    queued_of_key: int = 50
    device: str = "cpu"


class Desk:
    """What waits, how it is shared, and what has been drawn.

    Args:
        limits: What one job may ask for.
        terms: How the model is shared.
        kept: Where jobs and their pictures stay.
        clock: In seconds.
    """

    def __init__(
        self, limits: Limits, terms: Terms, kept: Kept, clock: Callable[[], float]
    ) -> None:
        self.limits, self.terms, self.kept, self.clock = limits, terms, kept, clock
        self.metrics, self.pace = Metrics(), Pace()
        self.lanes, self.moved = Lanes(), threading.Condition()  # its lock is the lanes'
        self.drawer: Drawer | None = None
        self.draining = False
        self.faults = 0  # pictures in a row that failed by a fault of ours

    @property
    def waiting(self) -> int:
        """How many pictures wait."""
        with self.moved:
            return len(self.lanes)

    @property
    def hidden(self) -> tuple[Path, ...]:
        """Files of the server that no message names."""
        if self.drawer is None:
            return ()
        return self.drawer.choice.ckpt_path, self.drawer.choice.config_path

    def ended(self, ticket: Ticket, how: str) -> None:
        """Note that a job has ended."""
        self.kept.end(ticket)
        self.metrics.job_ended(how)

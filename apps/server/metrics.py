"""What is counted, in Prometheus' text format. No prompt, key or address is among it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from apps.server.tickets import Drawn

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
_ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counts of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def named(kind: type, name: str, help: str, *labels: str, **rest: object) -> object:
            return kind(f"ldm_server_{name}", help, labels, registry=registry, **rest)

        self._requests = named(Counter, "requests", "HTTP requests answered", "method", "status")
        self._jobs = named(Counter, "jobs", "jobs ended, by how", "state")
        self._pictures = named(Counter, "pictures", "pictures drawn")
        self._flagged = named(Counter, "flagged_pictures", "pictures that were blacked out")
        self._turned_away = named(Counter, "turned_away", "jobs answered 429")
        self._waited = named(
            Histogram, "queue_seconds", "seconds that a picture waited", buckets=_SECONDS
        )
        self._drawing = named(
            Histogram, "batch_seconds", "seconds that a batch took", buckets=_SECONDS
        )
        self._rows = named(Histogram, "batch_pictures", "pictures of a batch", buckets=_ROWS)
        self._waiting = named(Gauge, "waiting_pictures", "pictures that wait")
        self._kept = named(Gauge, "kept_jobs", "jobs under way or kept")
        self._held = named(Gauge, "kept_bytes", "bytes of finished pictures that are kept")
        self._ready = named(Gauge, "ready", "1 if jobs are taken")

    def watch(
        self,
        *,
        waiting: Callable[[], int],
        kept: Callable[[], int],
        held: Callable[[], int],
        ready: Callable[[], bool],
    ) -> None:
        """Show a service's state as it is whenever somebody looks."""
        self._waiting.set_function(waiting)
        self._kept.set_function(kept)
        self._held.set_function(held)
        self._ready.set_function(ready)

    def request(self, method: str, status: int) -> None:
        """Count an answer."""
        known = method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS") else "other"
        self._requests.labels(known, str(status)).inc()

    def job_ended(self, state: str) -> None:
        """Count a job's end."""
        self._jobs.labels(state.replace(" ", "_")).inc()

    def picture(self, drawn: Drawn) -> None:
        """Count a picture."""
        self._pictures.inc()
        self._flagged.inc(drawn.flagged)

    def turned_away(self) -> None:
        """Count a job for which there was no room."""
        self._turned_away.inc()

    def waited(self, seconds: float) -> None:
        """Count a picture whose drawing begins."""
        self._waited.observe(seconds)

    def batch(self, rows: int) -> None:
        """Count a batch."""
        self._rows.observe(rows)

    def drawing(self) -> AbstractContextManager:
        """Return a context whose time is a batch's."""
        return self._drawing.time()

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)

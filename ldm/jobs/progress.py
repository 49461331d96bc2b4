"""How far a run is: counted, and served to Prometheus where that is asked for. Imports no torch."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ldm.errors import UserError
from ldm.jobs.records import Record
from ldm.paths import reason

HOST = "127.0.0.1"
_RECENT = 256  # records by whose times the present speed is told
_METRICS = (
    # (name, kind, what it is, attribute of ``Meter``)
    ("ldm_batch_pictures_total", "counter", "Pictures drawn and recorded by this run.", "pictures"),
    ("ldm_batch_errors_total", "counter", "Pictures that could not be drawn.", "errors"),
    ("ldm_batch_bytes_total", "counter", "Bytes of pictures written.", "size"),
    (
        "ldm_batch_drawing_seconds_total",
        "counter",
        "Seconds that workers have drawn, summed over them.",
        "seconds",
    ),
    ("ldm_batch_queue", "gauge", "Pictures that are left to draw.", "left"),
    ("ldm_batch_pictures_per_second", "gauge", "The present speed.", "speed"),
)


class Meter:
    """Counts records as they come. Threads may share one.

    Args:
        total: Pictures that the run is to draw.
        clock: Seconds.

    Attributes:
        pictures: Drawn.
        errors: That could not be drawn.
        size: Bytes of pictures.
        seconds: That drawing took, summed over workers.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self._clock = total, clock
        self.pictures = self.errors = self.size = 0
        self.seconds = 0.0
        self._began = clock()
        self._times: deque[float] = deque(maxlen=_RECENT)
        self._lock = threading.Lock()

    def add(self, record: Record) -> None:
        """Count a picture."""
        with self._lock:
            if record.error:
                self.errors += 1
            else:
                self.pictures += 1
            self.size += record.size
            self.seconds += record.seconds
            self._times.append(self._clock())

    @property
    def done(self) -> int:
        """Pictures that are settled: drawn, or found impossible."""
        return self.pictures + self.errors

    @property
    def left(self) -> int:
        """Pictures that are not settled."""
        return max(0, self.total - self.done)

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._began

    @property
    def speed(self) -> float:
        """Pictures per second: of the last ones, or of all while they are few."""
        with self._lock:
            count = len(self._times)
            full = count == _RECENT
            since = self._times[0] if full else self._began
        passed = self._clock() - since
        return (count - full) / passed if passed > 0 else 0.0

    def metrics(self) -> str:
        """Return the counters in Prometheus' text format."""
        lines = []
        for name, kind, words, attribute in _METRICS:
            value = getattr(self, attribute)
            lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}", f"{name} {value!r}"]
        return "\n".join(lines) + "\n"


@contextmanager
def served(meter: Meter, port: int) -> Iterator[int]:
    """Serve a meter at ``/metrics`` to this machine alone, within a ``with`` block.

    Args:
        meter: What is counted.
        port: Which; 0 takes a free one.

    Yields:
        The port.

    Raises:
        UserError: The port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.split("?")[0] == "/metrics"
            data = meter.metrics().encode("ascii") if found else b"see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing: the console shows the run."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UserError(
            f"--metrics_port {port} was given; it cannot be served ({reason(error)}); expected a "
            "free port; give another one, or 0"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

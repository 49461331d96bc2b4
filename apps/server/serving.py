"""Serve an application until a signal; then let what is being drawn be finished and fetched."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from apps.server.service import Service

LOOK = 0.05  # seconds between looks whether anybody still waits
CLOSING = 2  # seconds at least for answers that are under way when serving ends
RECENT = 60.0  # seconds after its end in which a job's owner is still expected


class Server(uvicorn.Server):
    """A server that drains its service first, and answers meanwhile; a second signal ends at once.

    Args:
        app: The application.
        service: Its service.
        host: The address to listen on.
        port: The port.
        grace: Seconds for pictures that are being drawn, and for their owners to fetch them.
        tell: Called with the port once requests are answered.
    """

    def __init__(
        self,
        app: Any,
        service: Service,
        *,
        host: str,
        port: int,
        grace: float,
        tell: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_level="warning",
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=CLOSING,
            )
        )
        self.service, self.grace, self.tell = service, grace, tell
        self._leaving = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self.tell(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Take a signal. It is not raised again afterwards: to end so is to end well."""
        if self._leaving:
            self.should_exit = self.force_exit = True
            return
        self._leaving = True
        # In a thread: the signal may have come while this one holds the service's lock.
        threading.Thread(target=self.leave, name="leaves", daemon=True).start()

    def leave(self) -> None:
        """Hand back what waits; stop serving once nothing is awaited, or the grace is over."""
        since = self.service.clock() - RECENT
        late = time.monotonic() + self.grace
        self.service.drain()
        while self.service.kept.awaited(since) and time.monotonic() < late:
            time.sleep(LOOK)
        # Pictures count as fetched when their answer begins: those are still being sent.
        left = math.ceil(late - time.monotonic())
        self.config.timeout_graceful_shutdown = max(CLOSING, left)
        self.should_exit = True

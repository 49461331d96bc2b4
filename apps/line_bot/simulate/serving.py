"""An ASGI application served from a thread of this process, on this machine's own address."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import uvicorn

from ldm.errors import UserError

HOST = "127.0.0.1"
PATIENCE = 300.0  # seconds for an application to start: it may load a model first


class Served:
    """A server that runs between `start` and `end`.

    Args:
        app: The application.
        port: Where to listen; 0 takes a free one.
        host: The address to listen on; on all of them (0.0.0.0) this machine's own is one.

    Raises:
        UserError: The port is taken or cannot be one.
    """

    def __init__(self, app: Any, port: int = 0, host: str = HOST) -> None:
        self._socket = _bound(port, host)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name=f"port {self.port}", daemon=True
        )

    @property
    def address(self) -> str:
        """Where it is reached, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Serve; return when requests are answered.

        Raises:
            RuntimeError: The application did not start; its own error is in the log.
        """
        self._thread.start()
        late = time.monotonic() + PATIENCE
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > late:
                self.end()
                raise RuntimeError("the application did not start")
            time.sleep(0.01)

    def end(self) -> None:
        """Stop, and wait until the last request is answered or given up."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with _bound(0) as listener:
        port: int = listener.getsockname()[1]
    return port


def _bound(port: int, host: str = HOST) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise UserError(
            f"port {port} cannot be listened on: {error}; choose another, or 0 for a free one"
        ) from error
    return listener

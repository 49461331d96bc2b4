"""Before the application: which names it answers to, how much of a request is read, what is told.

A page of some stranger may make a browser ask this machine; see ``optimizedSD.web.hosts``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from apps.server.answers import RELEASE, error_answer, our_fault
from apps.server.metrics import Metrics
from ldm.budgets import BODY_SECONDS, SERVER_BODIES, SERVER_REQUESTS
from optimizedSD.web.bodies import App, Receive, Scope, Send, limited
from optimizedSD.web.hosts import Hosts

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass
class Guard:
    """An ASGI application before another one.

    Attributes:
        app: That one.
        hosts: The names that it answers to.
        metrics: Where answers are counted.
        most: Bytes of one request's body.
        origins: Those of web pages that may use it.
        held: Bytes of all bodies that have been read, and are not worked off yet.
    """

    app: App
    hosts: Hosts
    metrics: Metrics
    most: int
    origins: Collection[str] = ()
    held: int = 0
    _open: int = field(default=0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or turn it away."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # there are none
            await send({"type": "websocket.close", "code": 1008})
        else:
            self._open += 1
            try:
                await self._request(scope, receive, _Answer(self, scope, send))
            finally:
                self._open -= 1

    async def _request(self, scope: Scope, receive: Receive, send: _Answer) -> None:
        body = _Body(self, receive)
        try:
            self._check_sender(Headers(scope=scope))
            body.receive = limited(scope, receive, self.most)
            scope[RELEASE] = body.release
            await self.app(scope, body, send)
        except ClientDisconnect:
            pass
        except Exception as error:
            if send.started:
                raise  # which ends the connection, so that nobody takes the part for the whole
            await _told(error)(scope, receive, send)
        finally:
            body.release()

    def _check_sender(self, headers: Headers) -> None:
        named = headers.getlist("host")
        if len(named) != 1 or not self.hosts.allow(named[0]):
            raise HTTPException(
                400,
                "the server is not reached under that name; expected its own; if the name is "
                "right, its operator adds it to --allowed_hosts",
            )
        for origin in headers.getlist("origin"):
            if origin not in self.origins and not self.hosts.own_origin(origin, named):
                raise HTTPException(
                    403,
                    "pages of that origin may not use the server; if they should, its operator "
                    "adds the origin to --cors",
                )
        if self._open > SERVER_REQUESTS:
            raise HTTPException(503, "too many requests are open", {"Retry-After": "5"})


def _told(error: Exception) -> JSONResponse:
    """Return what is answered for an error that no route has answered."""
    if isinstance(error, HTTPException):  # what else a stranger sends is not read
        headers = {"Connection": "close", **(error.headers or {})}
        return error_answer(error.status_code, error.detail, headers)
    return error_answer(*our_fault(error))


class _Answer:
    """A request's ``send``: it adds the headers that each answer has, and counts the answer."""

    def __init__(self, guard: Guard, scope: Scope, send: Send) -> None:
        self.guard, self.scope, self.send, self.started = guard, scope, send, False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        """Send the answer's next message."""
        if message["type"] == "http.response.start":
            self.started = True
            self.guard.metrics.request(self.scope["method"], message["status"])
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self.send(message)


class _Body:
    """A request's ``receive``: in time, and not more than all bodies together may take."""

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self.guard, self.receive, self.read, self._whole = guard, receive, 0, False
        self._until: float | None = None  # once its first message is waited for

    def _left(self) -> float:
        """Return the seconds in which the rest has to arrive: all of it, not each message."""
        now = asyncio.get_running_loop().time()
        if self._until is None:
            self._until = now + BODY_SECONDS
        return self._until - now

    def release(self) -> None:
        """Count what has been read no longer."""
        self.guard.held -= self.read
        self.read = 0

    async def __call__(self) -> MutableMapping[str, Any]:
        """Return the request's next message."""
        if self._whole:
            return await self.receive()
        try:
            message = await asyncio.wait_for(self.receive(), self._left())
        except asyncio.TimeoutError as error:
            raise HTTPException(408, f"the request took longer than {BODY_SECONDS} s") from error
        size = len(message.get("body", b""))
        self.read += size
        self.guard.held += size
        self._whole = not message.get("more_body", False)
        if self.guard.held > SERVER_BODIES:
            raise HTTPException(503, "too much is being sent at once", {"Retry-After": "5"})
        return message

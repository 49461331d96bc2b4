"""Bodies of requests: no more of one is read than is allowed, nor for longer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from ldm.budgets import BODY_SECONDS

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def limited(scope: Scope, receive: Receive, most: int) -> Receive:
    """Return ``receive`` for a body of at most so many bytes; no more is read.

    Args:
        scope: The request's.
        receive: The request's.
        most: Bytes of the body.

    Raises:
        HTTPException: The body says that it is longer; also while it is received.
    """
    too_large = HTTPException(413, f"the request is too large; expected at most {most} bytes")
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isascii() or not length.isdigit() or len(length) > 18 or int(length) > most:
        raise too_large
    read = 0

    async def receiving() -> MutableMapping[str, Any]:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > most:
            raise too_large
        return message

    return receiving


async def in_time(work: Awaitable[Any]) -> Any:
    """Wait for what reads a body.

    Raises:
        HTTPException: It takes too long.
    """
    try:
        return await asyncio.wait_for(work, BODY_SECONDS)
    except asyncio.TimeoutError as error:
        raise HTTPException(408, f"the request took longer than {BODY_SECONDS} s") from error

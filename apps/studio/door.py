"""The door before the page's gate: a name and a password, if the command line asks for them.

HTTP's own way (RFC 7617): the browser asks once and sends both with each request.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from optimizedSD.web.bodies import App, Receive, Scope, Send

STARTING = "/gradio_api/startup-events"  # gradio asks itself for it, before it serves anybody
PAUSE = 1.0  # seconds before a wrong password is answered
LONGEST = 1000  # characters of the header


@dataclass
class Door:
    """An ASGI application that lets those in who know the name and the password.

    Attributes:
        app: What stands behind it.
        auth: ``name:password``.
    """

    app: App
    auth: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or ask for name and password."""
        asked = scope["type"] == "http" and scope["path"] != STARTING
        given = Headers(scope=scope).get("authorization", "") if asked else ""
        if not asked or self._fits(given):
            await self.app(scope, receive, send)
            return
        if given:
            await asyncio.sleep(PAUSE)  # guessing takes its time
        refusal = PlainTextResponse(
            "a name and a password are needed",
            401,
            {"WWW-Authenticate": 'Basic realm="studio", charset="UTF-8"'},
        )
        await refusal(scope, receive, send)

    def _fits(self, header: str) -> bool:
        kind, _, token = header[:LONGEST].partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            given = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(given, self.auth.encode())

"""The bot's web application: webhooks in, pictures out, and whether it is alive.

A webhook is checked, stored and answered: no model and no network call stands between.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response

from apps.line_bot.database import Database
from apps.line_bot.events import events_in
from apps.line_bot.gallery import Gallery
from apps.line_bot.pictures import OwnPictures
from apps.line_bot.secret import Secret

logger = logging.getLogger(__name__)
LARGEST_BODY = 2**20  # bytes
# Nothing of a picture's answer is to be taken for a page, and nobody else is told the address.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}


def signature_of(secret: Secret, body: bytes) -> str:
    """Return what LINE writes into X-Line-Signature for a body."""
    digest = hmac.new(secret.reveal().encode(), body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


@dataclass
class Webhook:
    """Takes webhooks.

    Attributes:
        base: Where events are stored.
        secret: The channel's, by which LINE signs.
        wake: Called when there are new events.
        clock: Seconds since 1970.
    """

    base: Database
    secret: Secret
    wake: Callable[[], None]
    clock: Callable[[], float] = field(default=time.time)

    async def __call__(self, request: Request) -> Response:
        """Answer a webhook: 200, or 400 for a forged one, 413 for a large one, 503 in trouble."""
        body = await _body(request)
        if body is None:
            return _told(413, f"expected at most {LARGEST_BODY} bytes")
        return await run_in_threadpool(self.take, body, request.headers.get("x-line-signature", ""))

    def take(self, body: bytes, signature: str) -> Response:
        """Check and store a webhook; what is not stored is not answered with 200."""
        right = signature_of(self.secret, body).encode()
        if not hmac.compare_digest(right, signature.encode("utf-8", "replace")):
            return _told(400, "the signature is missing or wrong")
        try:
            events = events_in(body)
        except ValueError:  # UnicodeDecodeError and JSONDecodeError are such
            return _told(400, "the body is none of LINE's")
        try:
            self._store(events)
        except sqlite3.OperationalError as error:
            logger.error("a webhook could not be stored: %s", error)
            return _told(503, "it cannot be stored now")  # LINE sends it again
        self.wake()
        return JSONResponse({})

    def _store(self, events: list[tuple[str, str]]) -> None:
        """Store events that are not known yet, all or none of them."""
        now = self.clock()
        with self.base.transaction() as tell:
            for name, event in events:
                tell(
                    "INSERT INTO events (event_id, body, received) VALUES (?,?,?) "
                    "ON CONFLICT (event_id) DO NOTHING",
                    (name, event, now),
                )


async def _body(request: Request) -> bytes | None:
    """Return a request's body; None if it is too large, which is noticed before it is read."""
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and len(length) < 20 and int(length) > LARGEST_BODY:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            return None
    return bytes(body)


def _told(status: int, message: str) -> JSONResponse:
    return JSONResponse({"message": message}, status)


def make_app(webhook: Webhook, gallery: Gallery, alive: Callable[[], dict[str, object]]) -> FastAPI:
    """Return the application.

    Args:
        webhook: Takes what LINE sends.
        gallery: The pictures; they are served here if their store is the bot's own.
        alive: Returns what /healthz tells; it is healthy if ``ok`` is true.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/callback")
    async def callback(request: Request) -> Response:
        return await webhook(request)

    @app.get("/healthz")
    def healthz() -> Response:
        found = alive()
        return JSONResponse(found, 200 if found["ok"] else 503)

    @app.api_route("/pictures/{file}", methods=["GET", "HEAD"])
    def picture(file: str) -> Response:
        return _picture(gallery, file)

    return app


def _picture(gallery: Gallery, file: str) -> Response:
    """Serve a picture by its name; all that is no picture's name is not found."""
    name, dot, ending = file.partition(".")
    path = gallery.store.path(name) if isinstance(gallery.store, OwnPictures) else None
    expires = gallery.expires(name) if path and f"{dot}{ending}" == ".jpg" else None
    left = 0.0 if expires is None else expires - gallery.clock()
    if path is None or left <= 0 or path.is_symlink() or not path.is_file():
        return _told(404, "there is no such picture")
    cached = {"Cache-Control": f"private, max-age={int(left)}"}
    return FileResponse(path, media_type="image/jpeg", headers={**HEADERS, **cached})

"""The gate before a page: names, origins, addresses and sizes are checked, then gradio answers.

gradio offers some fifty addresses, fetches what a URL in a call names, hands out every kind of file
and takes uploads of any size. What a page's own browser window asks for passes; all else ends here.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response

from ldm.budgets import OPEN_REQUESTS, REQUEST, UPLOADED_FILES
from ldm.errors import UserError
from optimizedSD.web.bodies import App, Receive, Scope, Send, in_time, limited
from optimizedSD.web.calls import SESSION, Calls
from optimizedSD.web.hosts import Hosts
from optimizedSD.web.limits import TEXTS, Limits
from optimizedSD.web.uploads import shown_picture

MOST_JOINED = 1000  # sessions whose run may be watched
API = "/gradio_api"
_FILE = f"{API}/file="
_NAME = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"  # of a file or folder, not hidden
# What a browser window with the page asks gradio for, and gradio when it starts.
_READ = re.compile(
    rf"/|/config|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json"
    rf"|/(assets|static)(/{_NAME})+"
    rf"|{API}/(info|app_id|startup-events|queue/data|heartbeat/{SESSION.pattern})"
)
_WATCHING = f"{API}/queue/data"
_QUERIES = {_WATCHING, "/theme.css"}  # others never see theirs: "deep_link" reads files
_CALLS = {f"{API}/queue/join": True, f"{API}/run/predict": False}
_UPLOAD, _UPLOADING = f"{API}/upload", f"{API}/upload_progress"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_PICTURE_POLICY = {"Content-Security-Policy": "default-src 'none'; sandbox"}


@dataclass
class Gate:
    """An ASGI application that stands before a page's.

    Attributes:
        app: The page's.
        hosts: The names that it answers to.
        calls: The calls that it makes.
        limits: Of uploads and prompts.
        folders: Those whose pictures it hands out.
        left: Called with a visitor's session when the window that watches their run is closed.
    """

    app: App
    hosts: Hosts
    calls: Calls
    limits: Limits
    folders: Sequence[str | Path]
    left: Callable[[str], None]
    _open: Counter[str] = field(default_factory=Counter)
    _joined: dict[str, object] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # the page has none
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._request(scope, receive, _with_headers(send))

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = (scope.get("client") or ("", 0))[0]
        self._open[address] += 1
        try:
            self._check_sender(scope, self._open[address])
            await self._answer(scope, receive, send)
        except (HTTPException, UserError) as error:
            code = error.status_code if isinstance(error, HTTPException) else 400
            text = error.detail if isinstance(error, HTTPException) else str(error)
            headers = error.headers if isinstance(error, HTTPException) else None
            refusal = JSONResponse({"detail": text, "error": text}, code, headers=headers)
            await refusal(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            self._open[address] -= 1
            self._open += Counter()  # forgets those at zero

    def _check_sender(self, scope: Scope, open_requests: int) -> None:
        headers = Headers(scope=scope)
        named = headers.getlist("host")
        forwarded = headers.get("x-forwarded-host")
        hosts = [*named, *([] if forwarded is None else [forwarded.split(",")[0].strip()])]
        if len(named) != 1 or not all(map(self.hosts.allow, hosts)):
            raise _turned_away(
                400,
                "this page is not served under that name; expected its own address; if the name "
                "is right, start the program with --allowed_hosts and the name",
            )
        foreign = any(not self.hosts.own_origin(o, hosts) for o in headers.getlist("origin"))
        if foreign or _led_from_elsewhere(scope, headers):
            raise _turned_away(403, "this page answers only to itself, not to other pages")
        if open_requests > OPEN_REQUESTS:
            raise _turned_away(429, "too many requests of one address are open; close some")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        reads = method in ("GET", "HEAD")
        if reads and path.startswith(_FILE):
            await self._picture(path.removeprefix(_FILE))(scope, receive, send)
        elif reads and path == _UPLOADING:  # ours are over when the page hears of them
            done = PlainTextResponse('data: {"msg": "done"}\n\n', media_type="text/event-stream")
            await done(scope, receive, send)
        elif reads and _READ.fullmatch(path):
            await self._pass_on(scope, receive, send)
        elif method == "POST" and path == _UPLOAD:
            await (await self._take(scope, receive))(scope, receive, send)
        elif method == "POST" and path in _CALLS:
            await self._call(scope, receive, send, queued=_CALLS[path])
        else:
            raise HTTPException(404, "there is no such address on this page")

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let gradio answer; a window that was watching a run may be closed meanwhile."""
        path = scope["path"]
        inner = {**scope, "headers": _known_headers(scope["headers"])}
        if path not in _QUERIES:
            inner["query_string"] = b""
        if path != _WATCHING:
            await self.app(inner, receive, send)
            return
        session = Request(scope).query_params.get("session_hash", "")
        run = self._joined.get(session)
        if run is None:
            raise HTTPException(404, "no run of this session is drawn or waits")
        try:
            await self.app(inner, receive, send)
        finally:
            if self._joined.get(session) is run:  # not one that was begun meanwhile
                del self._joined[session]
                self.left(session)

    async def _call(self, scope: Scope, receive: Receive, send: Send, *, queued: bool) -> None:
        kind = Headers(scope=scope).get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPException(415, "the call is not JSON; expected application/json")
        # A letter takes up to 12 bytes in JSON.
        most = REQUEST + 12 * len(TEXTS) * self.limits.prompt
        body = await in_time(Request(scope, limited(scope, receive, most)).body())
        checked, session = self.calls.checked(body, queued=queued)
        if queued:
            self._join(session)
        length = [(b"content-length", str(len(checked)).encode())]
        headers = [each for each in _known_headers(scope["headers"]) if each[0] != length[0][0]]
        inner = {**scope, "headers": headers + length, "query_string": b""}
        await self.app(inner, _with_body(checked, receive), send)

    def _join(self, session: str) -> None:
        self._joined.pop(session, None)
        self._joined[session] = object()
        while len(self._joined) > MOST_JOINED:
            del self._joined[next(iter(self._joined))]

    async def _take(self, scope: Scope, receive: Receive) -> Response:
        """Take uploaded pictures; the answer is a list of their paths, which the page expects."""
        request = Request(scope, limited(scope, receive, self.limits.upload))
        form = request.form(max_files=UPLOADED_FILES, max_fields=UPLOADED_FILES)
        try:
            parts = await in_time(form)
        except MultiPartException as error:
            raise HTTPException(400, "the upload cannot be read; expected a form's") from error
        try:
            files = [part.file for part in parts.getlist("files") if not isinstance(part, str)]
            taken = [await asyncio.to_thread(self.calls.uploads.take, file) for file in files]
        finally:
            await parts.close()
        return JSONResponse([str(path) for path in taken])

    def _picture(self, path: str) -> Response:
        found = shown_picture(path, self.folders)
        if found is None:
            raise HTTPException(404, "there is no such picture on this page")
        file, kind = found
        return FileResponse(
            file,
            media_type=kind,
            filename=file.name,
            content_disposition_type="inline",
            headers=_PICTURE_POLICY,
        )


def _turned_away(code: int, text: str) -> HTTPException:
    """Return the answer to a stranger; what else they send is not read."""
    return HTTPException(code, text, headers={"Connection": "close"})


def _led_from_elsewhere(scope: Scope, headers: Headers) -> bool:
    """Return whether another site's page asks; following its link to the page is fine."""
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    return not (scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate")


def _known_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Leave out a header by which anybody could tell gradio where it is served."""
    return [(name, value) for name, value in headers if name != b"x-gradio-server"]


def _with_headers(send: Send) -> Send:
    """Add what a browser should know to every answer; no other origin may read any."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name in [each for each in headers if each.startswith("access-control-")]:
                del headers[name]
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


def _with_body(body: bytes, receive: Receive) -> Receive:
    """Return ``receive`` for a body that is here already; afterwards, the visitor may leave."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> MutableMapping[str, Any]:
        return left.pop() if left else await receive()

    return receiving

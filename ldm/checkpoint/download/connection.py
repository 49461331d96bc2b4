"""Ask a server for a file: few redirects, web addresses only, no secret to a second host.

What the server sends is never obeyed beyond that: a redirect leads to http or https and never from
https to http, the token stays with the host it is for, and an answer that brings no bytes of the
file, in whatever way, ends.
"""

from __future__ import annotations

import functools
import http.client
import io
import re
import socket
import ssl
import string
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from ldm.budgets import QUOTED, REDIRECTS
from ldm.errors import UserError

TIMEOUT = 30.0  # seconds without a byte
MOVED = (301, 302, 303, 307, 308)


class Interrupted(Exception):
    """The connection broke; the bytes received so far are kept."""


class TooSlow(Exception):
    """So few bytes of the file arrive that nobody would wait for the rest."""


@dataclass(frozen=True)
class Source:
    """Where a file comes from and how it is verified.

    Attributes:
        url: Its address.
        sha256: Its digest in hexadecimal, or None if no document states it; what the hub announces
            is then checked.
        page: Where a person can read about it and accept its licence.
        token: Sent as a bearer token to the host of ``url``, and to no other.
        size: Its length in bytes, or None if no document states it.
    """

    url: str
    sha256: str | None = None
    page: str = ""
    token: str | None = field(default=None, repr=False)
    size: int | None = None


class Pace:
    """Ends a transfer that brings too few bytes of the file, whatever else is sent meanwhile.

    Args:
        rate: Bytes of the file a second that are asked for.
        window: Over how many seconds they are counted.
    """

    def __init__(self, rate: float, window: float) -> None:
        self._rate, self._window = rate, window
        self._begun, self._bytes = time.monotonic(), 0

    def arrived(self, count: int) -> None:
        """Count bytes of the file."""
        self._bytes += count

    def check(self) -> None:
        """Begin the next window if one is over.

        Raises:
            TooSlow: It brought too little.
        """
        passed = time.monotonic() - self._begun
        if passed < self._window:
            return
        if self._bytes < self._rate * passed:
            raise TooSlow(f"{self._bytes} bytes in {passed:.0f} seconds")
        self._begun, self._bytes = time.monotonic(), 0


@dataclass(frozen=True)
class Reply:
    """What a server answered, redirects followed.

    Attributes:
        response: Its last answer, of any status.
        announced: The digest of the whole file that the hub states, if any; see ``stated_digest``.
    """

    response: http.client.HTTPResponse
    announced: str | None


def ask(source: Source, headers: Mapping[str, str], pace: Pace) -> Reply:
    """Send the request.

    Args:
        source: The file.
        headers: Of the request.
        pace: Looked at before every read from the connection.

    Raises:
        UserError: No network, or a redirect that is not followed.
        Interrupted: The connection broke.
        TooSlow: See ``pace``.
    """
    url, announced = _checked(source.url), None
    for _ in range(REDIRECTS + 1):
        request = urllib.request.Request(url, headers={"User-Agent": "ldm-download/1", **headers})
        if source.token and _origin(url) == _origin(source.url):
            request.add_header("Authorization", f"Bearer {source.token}")
        response = _sent(request, pace)
        announced = stated_digest(response.headers, "X-Linked-Etag") or announced
        if response.status not in MOVED:
            return Reply(response, announced)
        with response:
            url = _next(url, response.headers.get("Location"))
    raise UserError(
        f"{shown(source.url)} sends its readers on more than {REDIRECTS} times; expected a file; "
        "try again later"
    )


def stated_digest(headers: Message, name: str) -> str | None:
    """Return a digest that a header states in hexadecimal: SHA-256, or git's SHA-1 of small files.

    Args:
        headers: Of the answer.
        name: ``ETag``, or ``X-Linked-Etag``, where the hub says what its file servers will send.
    """
    found = re.fullmatch(r'(?:W/)?"?([0-9a-f]{64}|[0-9a-f]{40})"?', headers.get(name, ""))
    return found[1] if found else None


def shown(url: str) -> str:
    """Return an address as it can be printed: without what may be a secret, and not too long."""
    text = re.sub("//[^/]*@", "//", url.partition("?")[0])
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}..."


def in_words(error: object) -> str:
    """Return what an error says as it can be printed; a server has a part in its words."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:QUOTED]


def _checked(url: str) -> str:
    """Return an address; it has to be one of the web, without a name and a password in it.

    Raises:
        UserError: It is not.
    """
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or "@" in parts.netloc or not url.isprintable():
        raise UserError(
            f"{in_words(shown(url))!r} is no address to fetch from; expected https://... or "
            "http://... with a host and no password; nothing was fetched"
        )
    return url


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _next(here: str, location: str | None) -> str:
    """Return where a redirect leads.

    Raises:
        UserError: Nowhere, to no web address, or out of https.
    """
    target = quote(location or "", encoding="iso-8859-1", safe=string.punctuation)
    try:
        there = _checked(urljoin(here, target) if target else "")
    except ValueError as error:
        raise UserError(
            f"{shown(here)} sends its readers to {in_words(shown(target))!r}; expected a web "
            "address; try again later or from another network"
        ) from error
    if (urlsplit(here).scheme, urlsplit(there).scheme) == ("https", "http"):
        raise UserError(
            f"{shown(here)} sends its readers to the unprotected {shown(there)}; expected https; "
            "try again later or from another network"
        )
    return there


def _sent(request: urllib.request.Request, pace: Pace) -> http.client.HTTPResponse:
    try:
        return _opener(pace).open(request, timeout=TIMEOUT)
    except urllib.error.URLError as error:
        raise _unreachable(request.full_url, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(in_words(error)) from error


def _unreachable(url: str, reason: object) -> Exception:
    """Return the error to raise: final if the machine has no network, else worth a retry."""
    final = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
    if not isinstance(reason, final):
        return Interrupted(in_words(reason))
    return UserError(
        f"no connection to {urlsplit(url).netloc} ({in_words(reason)}); expected a network; check "
        "it and the proxy settings, or set HF_ENDPOINT to a mirror; what has arrived is kept, run "
        "again to go on"
    )


def _opener(pace: Pace) -> urllib.request.OpenerDirector:
    """Return what opens http and https, by a proxy if there is one, and nothing else.

    It follows no redirect and raises for no status: ``ask`` looks at each answer itself.
    """
    opener = urllib.request.OpenerDirector()
    handlers = urllib.request.ProxyHandler, functools.partial(_Web, pace)
    for make in (*handlers, urllib.request.UnknownHandler):
        opener.add_handler(make())
    return opener


class _Web(urllib.request.AbstractHTTPHandler):
    """Opens connections whose reading is watched."""

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self._pace = pace

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._watched(http.client.HTTPConnection), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        connection = self._watched(http.client.HTTPSConnection)
        return self.do_open(connection, request, context=ssl.create_default_context())

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def _watched(self, kind: type[http.client.HTTPConnection]) -> Callable[..., Any]:
        def connect(*args: Any, **options: Any) -> http.client.HTTPConnection:
            connection = kind(*args, **options)
            connection.response_class = functools.partial(_response, self._pace)
            return connection

        return connect


def _response(
    pace: Pace, sock: socket.socket, *args: Any, **options: Any
) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(_Socket(sock, pace), *args, **options)


class _Socket:
    """A connection as far as ``HTTPResponse`` uses one: it asks for a file to read from."""

    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        self._sock, self._pace = sock, pace

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Watched(self._sock.makefile(mode, buffering=0), self._pace))


class _Watched(io.RawIOBase):
    """Reads from a connection, and looks at the pace before each time."""

    def __init__(self, raw: io.RawIOBase, pace: Pace) -> None:
        self._raw, self._pace = raw, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._pace.check()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()

"""Download one file over HTTP: resume a partial download, check it, put it in place complete.

Only ``scripts/download_models.py`` uses this; nothing else in the project touches the network.
Until the file is complete and checked, its bytes are in ``NAME.part`` beside the target.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

from ldm.errors import UserError
from ldm.paths import ERRORS, exists, file_size, reason

BLOCK = 1 << 20  # bytes
TIMEOUT = 30.0  # seconds without a byte
Progress = Callable[[int, "int | None"], None]  # bytes so far, total bytes if known


@dataclass(frozen=True)
class Source:
    """Where a file comes from and how it is verified.

    Attributes:
        url: Its address.
        sha256: Its digest in hexadecimal, or None if no document states it; the digest that the
            hub announces is then checked.
        page: Where a person can read about it and accept its licence.
        token: Sent as a bearer token to the host of ``url``, and to no other.
    """

    url: str
    sha256: str | None = None
    page: str = ""
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Patience:
    """How often to retry after a broken connection that brought nothing new."""

    retries: int = 4
    wait: float = 1.0  # seconds before the first; doubled each time


class _Interrupted(Exception):
    """The connection broke; the bytes received so far are kept."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows the hub to its file servers without handing them the token.

    Attributes:
        announced: The SHA-256 that the hub states for a large file, if any.
    """

    announced: str | None = None

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        self.announced = _announced(headers) or self.announced
        here, there = urlsplit(req.full_url), urlsplit(newurl)
        if (here.scheme, there.scheme) == ("https", "http"):
            raise UserError(
                f"{req.full_url} sends its readers to the unprotected {newurl}; expected https; "
                "try again later or from another network"
            )
        if new is not None and here.netloc != there.netloc:
            new.remove_header("Authorization")
        return new


def fetch(
    source: Source,
    target: Path,
    *,
    progress: Progress = lambda _done, _total: None,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> bool:
    """Download a file to ``target``; resume a partial download if there is one.

    Args:
        source: What to fetch.
        target: Where it goes; its folder is made.
        progress: Called after every block.
        patience: See ``Patience``.

    Returns:
        False if the file was there already.

    Raises:
        UserError: Not allowed, not found, no connection, disk full, a different file than
            expected, or ``target`` exists and is something else.
    """
    if exists(target):
        _check_present(source, target)
        return False
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except ERRORS as error:
        raise UserError(f"folder {target.parent} cannot be made ({reason(error)})") from error
    expected = _transfer(source, part, progress, patience)
    _check_digest(part, expected, source.url)
    os.replace(part, target)
    return True


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _check_present(source: Source, target: Path) -> None:
    if source.sha256 is not None and sha256_of(target) != source.sha256:
        raise UserError(
            f"{target} exists and is another file than {source.url}; it is left as it is; "
            "move it away, or name another folder with --dest"
        )


def _check_digest(part: Path, expected: str | None, url: str) -> None:
    found = None if expected is None else sha256_of(part)
    if found != expected:
        part.unlink()
        raise UserError(
            f"{url} brought another file than expected: SHA-256 {found}, expected {expected}; "
            "it was deleted; try again, and if it happens twice the file there has changed"
        )


def _transfer(source: Source, part: Path, progress: Progress, patience: Patience) -> str | None:
    """Download all bytes to ``part``, in as many attempts as needed; return the expected digest."""
    vain = 0
    while True:
        before = _size(part)
        try:
            return _one_go(source, part, progress)
        except _Interrupted as reason:
            vain = vain + 1 if _size(part) <= before else 0
            if vain > patience.retries:
                raise UserError(
                    f"{source.url} broke off ({reason}) after {_size(part)} bytes, "
                    f"{vain} times in a row; they are kept in {part}; run again to go on"
                ) from reason
            time.sleep(patience.wait * 2**vain)


def _one_go(source: Source, part: Path, progress: Progress) -> str | None:
    """Request the missing bytes and append them; return the expected digest."""
    redirects = _Redirects()
    response = _open(source, part, redirects)
    if response is None:
        return source.sha256 or redirects.announced
    with response:
        expected = source.sha256 or redirects.announced or _announced(response.headers)
        if redirects.announced not in (None, expected):
            raise UserError(
                f"{source.url} has become another file: it announces SHA-256 "
                f"{redirects.announced}, expected {expected}; nothing was fetched"
            )
        start, total = _extent(response, part)
        _check_room(part, start, total)
        _append(response, part, start, total, progress)
    if total is not None and _size(part) < total:
        raise _Interrupted(f"{total - _size(part)} bytes are missing")
    return expected


def _open(source: Source, part: Path, redirects: _Redirects) -> http.client.HTTPResponse | None:
    """Send the request; return None if the part is already complete."""
    offset = _size(part)
    request = urllib.request.Request(source.url, headers={"User-Agent": "ldm-download/1"})
    if source.token:
        request.add_header("Authorization", f"Bearer {source.token}")
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    try:
        return urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            redirects.announced = _announced(error.headers) or redirects.announced
            if error.code == 416 and offset:
                _check_length(error.headers, part, offset)
                return None
            raise _refusal(source, error.code) from error
    except urllib.error.URLError as error:
        raise _unreachable(source, error.reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(str(error) or type(error).__name__) from error


def _check_length(headers: Message, part: Path, offset: int) -> None:
    """Accept a part that is as long as the file; delete one of any other length."""
    whole = re.fullmatch(r"bytes \*/(\d+)", headers.get("Content-Range", ""))
    if whole and int(whole[1]) != offset:
        part.unlink()
        raise _Interrupted("the part that was here is not of this file")


def _refusal(source: Source, code: int) -> Exception:
    """Return the error to raise for a status code; it says what the user can do."""
    if code == 429 or code >= 500:
        return _Interrupted(f"the server answered {code}")
    if code in (401, 403):
        told = "HF_TOKEN does not open it" if source.token else "it asks for a login"
        return UserError(
            f"{source.url}: {told} (HTTP {code}); expected an account that has accepted the "
            f"licence; log in at {source.page or 'its page'}, accept, make a token at "
            "https://huggingface.co/settings/tokens and run again with HF_TOKEN=... set"
        )
    if code in (404, 410):
        return UserError(
            f"{source.url} is not there (HTTP {code}); it may have moved; look at "
            f"{source.page or 'its page'}, or set HF_ENDPOINT to a mirror that has it"
        )
    return UserError(f"{source.url} was refused (HTTP {code}); try again later")


def _unreachable(source: Source, reason: object) -> Exception:
    """Return the error to raise: final if the machine has no network, else worth a retry."""
    final = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
    if not isinstance(reason, final):
        return _Interrupted(str(reason))
    host = urlsplit(source.url).netloc
    return UserError(
        f"no connection to {host} ({reason}); expected a network; check it and the proxy "
        "settings, or set HF_ENDPOINT to a mirror; what has arrived is kept, run again to go on"
    )


def _extent(response: http.client.HTTPResponse, part: Path) -> tuple[int, int | None]:
    """Return the offset of the response's first byte and the size of the whole file."""
    if "text/html" in response.headers.get("Content-Type", ""):
        raise UserError(
            f"{response.url} answered with a web page; expected a file; open it in a browser to "
            "see what it asks for (a login? a captive portal?)"
        )
    length = response.headers.get("Content-Length")
    if response.status != 206:
        # The server does not resume: begin again.
        return 0, None if length is None else int(length)
    span = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if span is None or int(span[1]) != _size(part):
        part.unlink(missing_ok=True)
        raise _Interrupted("the server resumed at another place than asked")
    return int(span[1]), None if span[2] == "*" else int(span[2])


def _check_room(part: Path, start: int, total: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and free < total - _size(part):
        raise UserError(
            f"{part.parent} has {free / 1e9:.2f} GB free; expected room for "
            f"{(total - start) / 1e9:.2f} GB more; make room, or name another folder with --dest"
        )


def _append(response, part: Path, start: int, total: int | None, progress: Progress) -> None:
    with part.open("ab") as file:
        file.truncate(start)
        done = start
        progress(done, total)
        while block := _read(response):
            try:
                file.write(block)
            except OSError as error:
                raise UserError(
                    f"{part} cannot be written ({error.strerror}); make room, or name another "
                    "folder with --dest; what has arrived is kept, run again to go on"
                ) from error
            done += len(block)
            progress(done, total)


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(BLOCK)
    except http.client.IncompleteRead as error:
        return error.partial
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(str(error) or type(error).__name__) from error


def _announced(headers: Message) -> str | None:
    """Return the SHA-256 from the hub's header for large files, if present."""
    found = re.fullmatch(r'(?:W/)?"?([0-9a-f]{64})"?', headers.get("X-Linked-Etag", ""))
    return found[1] if found else None


def _size(path: Path) -> int:
    return file_size(path)

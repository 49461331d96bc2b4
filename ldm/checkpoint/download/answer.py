"""Judge a server's answer before a byte of it is kept: is it the file, from where on, how long?

Of the headers only those are read that say so. A name in Content-Disposition chooses no path.
"""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass
from email.message import Message

from ldm.budgets import DOWNLOAD_BYTES
from ldm.checkpoint.download.connection import Interrupted, Source, shown
from ldm.errors import UserError
from ldm.legible import quoted

_COUNT = re.compile("[0-9]{1,18}")  # bytes; more is a joke


class OtherPlace(Interrupted):
    """What comes does not go on where the part ends: the part is of no use."""


@dataclass(frozen=True)
class Extent:
    """Which bytes of the file an answer brings: from ``start`` to its end.

    Attributes:
        start: Offset of the first.
        total: Length of the whole file, or None if the server does not say.
    """

    start: int
    total: int | None


def extent(source: Source, response: http.client.HTTPResponse, offset: int) -> Extent:
    """Return which bytes an answer of status 200 or 206 brings.

    Args:
        source: The file that was asked for.
        response: The answer; nothing of it has been read.
        offset: From where on bytes were asked for.

    Raises:
        UserError: It is a web page, is packed, or is longer than the file can be.
        OtherPlace: It brings other bytes than asked.
    """
    _check_kind(source, response)
    length = _length(source, response.headers)
    if response.status == 206:
        start, total = _resumed(response.headers, offset, length)
    else:
        start, total = 0, length  # the server does not resume: begin again
    _check_total(source, total)
    return Extent(start, source.size if total is None else total)


def check_complete(source: Source, headers: Message, offset: int) -> None:
    """Accept a part to which the server has nothing to add (416), if it is as long as the file.

    Raises:
        OtherPlace: It is not.
    """
    whole = re.fullmatch(r"bytes \*/([0-9]{1,18})", headers.get("Content-Range", ""))
    total = int(whole[1]) if whole else None
    if total not in (None, offset) or source.size not in (None, offset):
        raise OtherPlace("the part that was here is not of this file")


def refusal(source: Source, status: int) -> Exception:
    """Return the error to raise for a status; it says what the user can do."""
    if status == 429 or status >= 500:
        return Interrupted(f"the server answered {status}")
    if status in (401, 403):
        told = "HF_TOKEN does not open it" if source.token else "it asks for a login"
        return UserError(
            f"{source.url}: {told} (HTTP {status}); expected an account that has accepted the "
            f"licence; log in at {source.page or 'its page'}, accept, make a token at "
            "https://huggingface.co/settings/tokens and run again with HF_TOKEN=... set"
        )
    if status in (404, 410):
        return UserError(
            f"{source.url} is not there (HTTP {status}); it may have moved; look at "
            f"{source.page or 'its page'}, or set HF_ENDPOINT to a mirror that has it"
        )
    return UserError(f"{source.url} was refused (HTTP {status}); expected a file; try again later")


def _check_kind(source: Source, response: http.client.HTTPResponse) -> None:
    if "html" in response.headers.get("Content-Type", "").lower():
        raise UserError(
            f"{shown(source.url)} answered with a web page; expected a file; open it in a browser "
            "to see what it asks for (a login? a captive portal?)"
        )
    packed = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packed not in ("identity", ""):
        raise UserError(
            f"{shown(source.url)} answered with a file packed by {quoted(packed)}, which was not "
            "asked for; expected the file as it is; nothing was fetched; try another network"
        )


def _length(source: Source, headers: Message) -> int | None:
    """Return how many bytes the answer announces, or None if it does not say.

    Raises:
        UserError: It says what is no number, or two different ones.
    """
    said = {each.strip() for each in headers.get_all("Content-Length", [])}
    if not said:
        return None
    if len(said) > 1 or not _COUNT.fullmatch(*said):
        two = " and ".join(map(quoted, sorted(said)[:2]))
        raise UserError(
            f"{shown(source.url)} announces {two} bytes; expected one number; "
            "nothing was fetched; try again later or another mirror"
        )
    return int(said.pop())


def _resumed(headers: Message, offset: int, length: int | None) -> tuple[int, int | None]:
    """Return where an answer of status 206 begins, and how long the whole file is."""
    said = headers.get("Content-Range", "")
    span = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", said)
    if span is None:
        raise OtherPlace("the server resumed without saying where")
    first, last = int(span[1]), int(span[2])
    total = None if span[3] == "*" else int(span[3])
    if first != offset or last < first or (total is not None and last >= total):
        raise OtherPlace("the server resumed at another place than asked")
    if length not in (None, last - first + 1):
        raise OtherPlace("the server announces two different lengths")
    return first, total


def _check_total(source: Source, total: int | None) -> None:
    if total is None:
        return
    if source.size not in (None, total):
        raise UserError(
            f"{shown(source.url)} has become another file: it announces {total} bytes, expected "
            f"{source.size}; nothing was fetched; look at {source.page or 'its page'}"
        )
    if total > DOWNLOAD_BYTES:
        raise UserError(
            f"{shown(source.url)} announces {total} bytes; expected at most {DOWNLOAD_BYTES}; "
            "nothing was fetched; fetch it with a browser if that is right"
        )

"""Receive a file in as many tries as needed, and check that it is the one that was wanted."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ldm.budgets import DOWNLOAD_BYTES, DOWNLOAD_RATE, DOWNLOAD_WINDOW
from ldm.checkpoint.download.answer import Extent, OtherPlace, check_complete, extent, refusal
from ldm.checkpoint.download.connection import (
    Interrupted,
    Pace,
    Reply,
    Source,
    TooSlow,
    ask,
    in_words,
    stated_digest,
)
from ldm.errors import UserError
from ldm.paths import file_size

BLOCK = 1 << 20  # bytes
Progress = Callable[[int, "int | None"], None]  # bytes so far, total bytes if known
Notice = Callable[[str], None]


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        retries: How often to ask again after a broken connection that brought nothing new.
        wait: Seconds before the first; doubled each time.
        rate: Bytes of the file a second that have to come.
        window: Over how many seconds they are counted, pauses between tries included.
    """

    retries: int = 4
    wait: float = 1.0
    rate: float = DOWNLOAD_RATE
    window: float = DOWNLOAD_WINDOW


class Transfer:
    """A file on its way: what has come, and what is known of the one at the other end.

    Args:
        source: What is fetched.
        part: The path of what has come.
        file: The part, open to append to.
        progress: Called after every block.
    """

    def __init__(self, source: Source, part: Path, file: io.FileIO, progress: Progress) -> None:
        self._source, self._part, self._file, self._progress = source, part, file, progress
        self._digest = source.sha256  # that the whole must have
        self._etag: str | None = None  # of what this run began to receive
        self._total: int | None = None
        self._ends = True  # whether its end can be told from a broken connection

    def run(self, patience: Patience) -> None:
        """Receive all bytes, in as many tries as needed.

        Raises:
            UserError: See ``fetch``.
        """
        pace, best, vain = Pace(patience.rate, patience.window), self._size(), 0
        while True:
            try:
                return self._one_go(pace)
            except TooSlow as error:
                raise UserError(
                    f"{self._source.url} brings too little ({error}, expected "
                    f"{patience.rate:.0f} a second); {self._kept()}, or set HF_ENDPOINT to a mirror"
                ) from error
            except Interrupted as error:
                if isinstance(error, OtherPlace):
                    self._file.truncate(0)
                vain, best = (0, self._size()) if self._size() > best else (vain + 1, best)
                if vain > patience.retries:
                    raise UserError(
                        f"{self._source.url} broke off ({in_words(error)}) after {self._size()} "
                        f"bytes, {vain} times in a row; {self._kept()}"
                    ) from error
                time.sleep(patience.wait * 2**vain)

    def check(self, name: str, notice: Notice) -> None:
        """Check the whole file; say what of it could not be.

        Raises:
            UserError: It is another file than expected; its bytes are removed.
        """
        kind, digest_of = "SHA-256", sha256_of
        if self._digest is not None and len(self._digest) == 40:
            kind, digest_of = "git's SHA-1", git_sha1_of
        found = None if self._digest is None else digest_of(self._part)
        if found != self._digest:
            self._file.truncate(0)
            raise UserError(
                f"{self._source.url} brought another file than expected: {kind} {found}, expected "
                f"{self._digest}; it was deleted; try again, and if it happens twice the file "
                "there has changed"
            )
        if found is None and (self._size() == 0 or not self._ends):
            self._file.truncate(0)
            raise UserError(
                f"{self._source.url} brought nothing, or something whose end cannot be told from "
                "a broken connection; expected a file of known length; try again later"
            )
        if self._source.sha256 is None:
            size = " its size and" if self._total is not None else ""
            checked = f"checked:{size} the {kind} that the server states"
            if found is None:
                checked = "only its size was checked" if size else "nothing of it was checked"
            notice(f"{name}: no SHA-256 of it is published; {checked}")

    def _one_go(self, pace: Pace) -> None:
        """Request the missing bytes and append them."""
        if self._source.size is not None and self._size() > self._source.size:
            self._file.truncate(0)
        offset, headers = self._size(), {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if self._etag is not None and self._digest is None:
                headers["If-Range"] = self._etag
        reply = ask(self._source, headers, pace)
        with reply.response as response:
            self._compare(reply, offset)
            if response.status == 416 and offset:
                check_complete(self._source, response.headers, offset)
                return
            if response.status not in (200, 206):
                raise refusal(self._source, response.status)
            coming = extent(self._source, response, offset)
            self._begin(response, coming)
            self._append(response, coming, pace)

    def _compare(self, reply: Reply, offset: int) -> None:
        """Compare what the server says of its file with what is expected, and with the part.

        Raises:
            UserError: It states another digest.
            OtherPlace: The part may be of another file, and nothing will tell.
        """
        headers = reply.response.headers
        stated = reply.announced or stated_digest(headers, "ETag")
        if self._source.sha256 is not None:
            if reply.announced not in (None, self._source.sha256) and len(reply.announced) == 64:
                raise UserError(
                    f"{self._source.url} has become another file: it announces SHA-256 "
                    f"{reply.announced}, expected {self._source.sha256}; nothing was fetched"
                )
            return
        before, self._digest = self._digest, stated
        if not offset or reply.response.status not in (206, 416):
            return
        same = headers.get("ETag") == self._etag is not None
        if before not in (None, stated) or (stated is None and not same):
            raise OtherPlace("nothing says that the part that was here is of this file")

    def _begin(self, response: http.client.HTTPResponse, coming: Extent) -> None:
        """Make ready for the bytes: remember whose they are, cut the part, look for room."""
        if coming.start == 0:
            tag = response.headers.get("ETag", "")
            self._etag = tag if tag.startswith('"') else None  # a weak one proves nothing
        elif self._total not in (None, coming.total):
            raise OtherPlace("the file has become longer or shorter")
        self._total = coming.total
        self._ends = coming.total is not None or response.chunked
        free = shutil.disk_usage(self._part.parent).free
        if coming.total is not None and free < coming.total - self._size():
            raise UserError(
                f"{self._part.parent} has {free / 1e9:.2f} GB free; expected room for "
                f"{(coming.total - coming.start) / 1e9:.2f} GB more; make room, or name another "
                "folder with --dest"
            )
        self._file.truncate(coming.start)

    def _append(self, response: http.client.HTTPResponse, coming: Extent, pace: Pace) -> None:
        done, total = coming.start, coming.total
        limit = DOWNLOAD_BYTES if total is None else total
        self._progress(done, total)
        while block := _read(response):
            done += len(block)
            if done > limit:
                self._file.truncate(0)
                raise UserError(
                    f"{self._source.url} sends more than {limit} bytes; expected no more; it was "
                    "stopped and what had come deleted; try again later or another mirror"
                )
            self._write(block)
            pace.arrived(len(block))
            self._progress(done, total)
        if total is not None and done < total:
            raise Interrupted(f"{total - done} bytes are missing")

    def _write(self, block: bytes) -> None:
        try:
            rest = memoryview(block)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise UserError(
                f"{self._part} cannot be written ({error.strerror}); make room, or name another "
                "folder with --dest; what has arrived is kept, run again to go on"
            ) from error

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _kept(self) -> str:
        return f"{self._size()} bytes are kept in {self._part}; run again to go on"


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(BLOCK)  # what is there: ``read`` would wait for a whole block
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(in_words(error)) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return _digest_of(path, hashlib.sha256())


def git_sha1_of(path: Path) -> str:
    """Return the SHA-1 by which git, and the hub for small files, names a file's content."""
    begun = hashlib.sha1(b"blob %d\0" % file_size(path), usedforsecurity=False)
    return _digest_of(path, begun)


def _digest_of(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()

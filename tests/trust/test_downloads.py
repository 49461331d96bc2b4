"""Whatever a server answers, a download ends with the right file or with one line, and soon."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from types import SimpleNamespace

import pytest

from ldm.checkpoint.download import answer, connection, transfer
from ldm.checkpoint.download import fetch as fetching
from ldm.checkpoint.download.connection import Source
from ldm.checkpoint.download.fetch import _alone, fetch
from ldm.checkpoint.download.transfer import Patience
from ldm.errors import UserError

BODY = bytes(range(251)) * 400
SIZE = len(BODY)
SHA256 = hashlib.sha256(BODY).hexdigest()
GIT = hashlib.sha1(b"blob %d\0" % SIZE + BODY).hexdigest()
OTHER = BODY[::-1]
HASTY = Patience(retries=1, wait=0.0, rate=1_000, window=0.3)
BEFORE = 40_000  # bytes of a part from an earlier run

Make = Callable[[str], "bytes | Iterator[bytes]"]  # from the file's address to the answer


def head(status: str = "200 OK", length: object = SIZE, **headers: object) -> bytes:
    lines = {"Content-Length": length, **{k.replace("_", "-"): v for k, v in headers.items()}}
    rows = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in lines.items() if v is not None)]
    return ("\r\n".join(rows) + "\r\n\r\n").encode("latin-1")


def whole(body: bytes = BODY, **headers: object) -> bytes:
    return head(length=len(body), **headers) + body


def rest(body: bytes = BODY, span: str | None = None, **headers: object) -> bytes:
    span = span or f"bytes {BEFORE}-{len(body) - 1}/{len(body)}"
    text = body[BEFORE:]
    return head("206 Partial", **{"length": len(text), "Content-Range": span, **headers}) + text


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKED = {"length": None, "Transfer_Encoding": "chunked"}


def redirect(location: str | None) -> bytes:
    return head("302 Found", length=0, **({} if location is None else {"Location": location}))


def slowly(first: bytes, each: bytes, wait: float = 0.02) -> Make:
    def pieces(_url: str) -> Iterator[bytes]:
        yield first
        for _ in range(1_000):
            time.sleep(wait)
            yield each

    return pieces


def endlessly(first: bytes, each: bytes) -> Make:
    return lambda _url: itertools.chain([first], itertools.repeat(each))


class Server:
    """Answers each request with the next of its answers, and with the last ever after.

    Attributes:
        url: Of the file.
        requests: The heads of the requests.
    """

    def __init__(self, *answers: Make) -> None:
        self._answers, self.requests = list(answers), []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/model.bin"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += link.recv(4096) or b"\r\n\r\n"
            self.requests.append(request.decode("latin-1"))
            make = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            found = make(self.url)
            for piece in (found,) if isinstance(found, bytes) else found:
                link.sendall(piece)
            link.shutdown(socket.SHUT_WR)
            while link.recv(4096):  # else what it has not read yet might never reach it
                pass

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def serve(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(connection, "TIMEOUT", 0.25)
    servers: list[Server] = []

    def make(*answers: bytes | Make) -> Server:
        servers.append(Server(*(a if callable(a) else lambda _url, a=a: a for a in answers)))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def get(server: Server, folder, *, part: bytes = b"", notices: list | None = None, **known) -> bool:
    if part:
        (folder / "model.bin.part").write_bytes(part)
    source = Source(server.url, **known)
    told = [] if notices is None else notices
    return fetch(source, folder / "model.bin", patience=HASTY, notice=told.append)


def refused(server: Server, folder, **options) -> str:
    """Fetch and return the one line of refusal; nothing but a part may have come of it."""
    before, began = set(os.listdir(folder)), time.monotonic()
    with pytest.raises(UserError) as caught:
        get(server, folder, **options)
    assert time.monotonic() - began < 5
    assert set(os.listdir(folder)) <= before | {"model.bin.part"}
    text = str(caught.value)
    assert text.isprintable() and len(text) < 1_000
    return text


KNOWN = {"sha256": SHA256, "size": SIZE}

# What is answered, and words of the refusal.
NOT_THE_FILE = {
    "a circle of redirects": (redirect, "more than 10 times"),
    "a redirect to ftp": (redirect("ftp://127.0.0.1/x"), "no address|web address"),
    "a redirect to a file": (redirect("file:///etc/passwd"), "web address"),
    "a redirect to data": (redirect("data:text/plain,hello"), "web address"),
    "a redirect to script": (redirect("javascript:alert(1)"), "web address"),
    "a redirect to nowhere": (redirect(None), "web address"),
    "a redirect to half an address": (redirect("http://[::1/x"), "web address"),
    "a redirect to no host": (redirect("https:///x"), "web address"),
    "a redirect with a password": (redirect("http://me:secret@127.0.0.1/x"), "web address"),
    "a redirect to no port": (redirect("http://127.0.0.1:99999/x"), "web address"),
    "a redirect with an escape": (redirect("gopher://\x1b[31mred\x07/x"), "web address"),
    "a redirect as long as a book": (redirect("ftp://" + "x" * 60_000), "web address"),
    "a packed file": (whole(Content_Encoding="gzip"), "packed by 'gzip'"),
    "a page": (whole(b"<html>", Content_Type="TEXT/HTML; charset=utf-8"), "web page"),
    "a page of the stricter kind": (whole(Content_Type="application/xhtml+xml"), "web page"),
    "a length that is none": (head(length="abc") + BODY, "'abc' bytes"),
    "a length below zero": (head(length=-5) + BODY, "'-5' bytes"),
    "a length of many digits": (head(length="9" * 5_000) + BODY, "999' bytes"),
    "a length with an underscore": (head(length="100_400") + BODY, "expected one number"),
    "two lengths": (head(**{"Content_length": 7}) + BODY, "'100400' and '7' bytes"),
    "too great a length": (head(length=10**15) + BODY, "has become another file"),
    "too small a length": (whole(BODY[:-1]), "has become another file"),
    "a longer file in chunks": (head(**CHUNKED) + chunk(BODY) + chunk(b"x"), "sends more than"),
    "chunks without end": (endlessly(head(**CHUNKED), chunk(BODY)), "sends more than"),
    "bytes without end": (endlessly(head(length=None), BODY), "sends more than"),
    "the same length of other bytes": (whole(OTHER), "SHA-256"),
    "nothing at all": (b"", "broke off"),
    "no status": (b"hello\r\n\r\n" + BODY, "broke off"),
    "the file alone": (BODY, "broke off"),
    "status 204": (head("204 No Content", length=None), "HTTP 204"),
    "status 206 unasked": (rest(), "another place"),
    "status 300": (head("300 Choose"), "HTTP 300"),
    "status 304": (head("304 Same", length=None), "HTTP 304"),
    "status 999": (head("999 \x1b[2J"), "answered 999"),
    "a busy server": (head("503 Later", length=0, Retry_After=86_400), "answered 503"),
    "an escape for a status": (b"HTTP/1.1 \x1b[31mred\r\n\r\n", "broke off"),
    "a chunk of no length": (head(**CHUNKED) + b"zz\r\nhello\r\n", "broke off"),
    "a chunk below zero": (head(**CHUNKED) + b"-5\r\nhello\r\n0\r\n\r\n", "broke off"),
    "a chunk of exabytes": (head(**CHUNKED) + b"f" * 60_000 + b"\r\nhello", "broke off"),
    "chunks that break off": (head(**CHUNKED) + chunk(BODY[:9_000]), "broke off"),
    "a file that breaks off": (head() + BODY[:-1], "broke off"),
    "two hundred headers": (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", "broke off"),
    "a header of a megabyte": (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 2**20, "broke off"),
    "headers without end": (endlessly(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"), "broke off"),
    "going on without end": (endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "too little"),
    "silence": (slowly(b"", b"", 0.1), "too little|broke off"),
    "silence within the file": (slowly(head() + BODY[:9], b"", 0.1), "too little|broke off"),
    "a trickle of headers": (slowly(b"HTTP/1.1 200 OK\r\n", b"A"), "too little"),
    "a trickle of bytes": (slowly(head(), b"x"), "too little"),
    "a trickle of chunks": (
        slowly(head(**CHUNKED), b"1;" + b"x" * 500 + b"\r\nx\r\n"),
        "too little",
    ),
    "a trickle of a chunk's name": (slowly(head(**CHUNKED), b"0"), "too little"),
    "a last chunk without end": (
        endlessly(head(**CHUNKED) + chunk(BODY) + b"0\r\n", b"A: b\r\n"),
        "too little",
    ),
}


@pytest.mark.parametrize("kind", NOT_THE_FILE)
def test_an_answer_that_is_not_the_file_is_one_line(kind, serve, tmp_path):
    what, words = NOT_THE_FILE[kind]
    assert re.search(words, refused(serve(what), tmp_path, **KNOWN))


@pytest.mark.parametrize("kind", sorted(NOT_THE_FILE.keys() - {"status 206 unasked"}))
def test_it_is_one_line_too_where_a_part_was_there(kind, serve, tmp_path):
    what, words = NOT_THE_FILE[kind]
    server = serve(what)
    assert re.search(words, refused(server, tmp_path, part=BODY[:BEFORE], **KNOWN))
    assert f"Range: bytes={BEFORE}-" in server.requests[0]


OTHER_RANGES = {
    "an earlier place": {"span": f"bytes 0-{SIZE - 1}/{SIZE}"},
    "a later place": {"span": f"bytes {BEFORE + 1}-{SIZE - 1}/{SIZE}"},
    "an end before its beginning": {"span": f"bytes {BEFORE}-{BEFORE - 1}/{SIZE}"},
    "an end behind the file's": {"span": f"bytes {BEFORE}-{SIZE}/{SIZE}"},
    "no place": {"Content-Range": None},
    "no numbers": {"span": "bytes one-two/three"},
    "numbers of many digits": {"span": f"bytes {BEFORE}-{'9' * 5000}/{'9' * 5001}"},
    "several places": {"Content-Range": None, "Content-Type": "multipart/byteranges; boundary=x"},
    "two different lengths": {"length": SIZE - BEFORE - 7},
}


@pytest.mark.parametrize("kind", OTHER_RANGES)
def test_an_answer_that_goes_on_at_another_place_is_not_believed(kind, serve, tmp_path):
    server = serve(rest(**OTHER_RANGES[kind]), whole())
    assert get(server, tmp_path, part=BODY[:BEFORE], **KNOWN)
    assert (tmp_path / "model.bin").read_bytes() == BODY
    assert "Range:" in server.requests[0] and "Range:" not in server.requests[1]


GOOD = {
    "whole": (whole(), b""),
    "in chunks": (head(**CHUNKED) + chunk(BODY[:5]) + chunk(BODY[5:]) + b"0\r\n\r\n", b""),
    "without a length": (head(length=None) + BODY, b""),
    "its rest": (rest(), BODY[:BEFORE]),
    "its rest, of a length that is not told": (
        rest(span=f"bytes {BEFORE}-{SIZE - 1}/*"),
        BODY[:BEFORE],
    ),
    "whole, though the rest was asked for": (whole(), OTHER[:BEFORE]),
    "nothing, as the part is whole": (
        head("416 Nothing", length=0, Content_Range=f"bytes */{SIZE}"),
        BODY,
    ),
    "with a name that leads elsewhere": (
        whole(Content_Disposition='attachment; filename="../../evil"'),
        b"",
    ),
    "as a page that it is not": (whole(Content_Type="text/plain"), b""),
}


@pytest.mark.parametrize("kind", GOOD)
def test_a_file_arrives_however_it_is_sent(kind, serve, tmp_path):
    sent, part = GOOD[kind]
    (tmp_path / "in").mkdir()
    assert get(serve(sent), tmp_path / "in", part=part, **KNOWN)
    assert (tmp_path / "in" / "model.bin").read_bytes() == BODY
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["model.bin"]


def test_a_trickle_keeps_what_has_come_and_the_next_run_goes_on(serve, tmp_path):
    text = refused(serve(slowly(head() + BODY[:BEFORE], b"")), tmp_path, **KNOWN)
    assert f"{BEFORE} bytes are kept" in text
    server = serve(rest())
    assert get(server, tmp_path, **KNOWN)
    assert f"Range: bytes={BEFORE}-" in server.requests[0]
    assert (tmp_path / "model.bin").read_bytes() == BODY


def test_a_server_that_is_slow_to_connect_to_is_slow(serve, tmp_path, monkeypatch):
    def connect(request, timeout):
        time.sleep(0.2)
        raise urllib.error.URLError(TimeoutError("timed out"))

    monkeypatch.setattr(connection, "_opener", lambda pace: SimpleNamespace(open=connect))
    patient = dataclasses.replace(HASTY, retries=1_000)
    with pytest.raises(UserError, match="too little.*nothing came"):
        fetch(Source("http://127.0.0.1/x"), tmp_path / "x", patience=patient)
    assert os.listdir(tmp_path) == []


def test_one_byte_a_try_is_no_progress(serve, tmp_path):
    """Each try breaks off and brings one byte more, which renews nobody's patience for long."""
    sizes = iter(range(10_000))

    def one_more(_url: str) -> Iterator[bytes]:
        start = next(sizes)
        span = f"bytes {start}-{SIZE - 1}/{SIZE}"
        status, headers = ("206 Partial", {"Content-Range": span}) if start else ("200 OK", {})
        yield head(status, length=SIZE - start, **headers) + BODY[start : start + 1]
        time.sleep(0.05)

    assert "too little" in refused(serve(one_more), tmp_path, **KNOWN)


def test_a_length_that_nobody_knows_has_a_limit(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "DOWNLOAD_BYTES", 10 * SIZE)
    monkeypatch.setattr(answer, "DOWNLOAD_BYTES", 10 * SIZE)
    assert "more than" in refused(serve(endlessly(head(length=None), BODY)), tmp_path)
    assert "at most" in refused(serve(head(length=10 * SIZE + 1)), tmp_path)
    assert os.listdir(tmp_path) == []


# Without a published digest.


@pytest.mark.parametrize("tag", ['"x"', 'W/"x"', None])
def test_a_part_of_an_earlier_run_is_not_gone_on_with_where_no_digest_will_tell(
    tag, serve, tmp_path
):
    headers = {} if tag is None else {"ETag": tag}
    server = serve(rest(**headers), whole(**headers))
    assert get(server, tmp_path, part=OTHER[:BEFORE], size=SIZE)
    assert (tmp_path / "model.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    ("first", "then", "works"),
    [('"x"', '"x"', True), ('"x"', '"y"', False), ('W/"x"', 'W/"x"', False), ('"x"', None, False)],
)
def test_a_broken_transfer_goes_on_only_in_the_same_file(first, then, works, serve, tmp_path):
    begun = head(ETag=first) + BODY[:BEFORE]
    server = serve(begun, rest(**({} if then is None else {"ETag": then})), whole())
    assert get(server, tmp_path, size=SIZE)
    assert (tmp_path / "model.bin").read_bytes() == BODY
    assert len(server.requests) == (2 if works else 3)
    assert ("If-Range" in server.requests[1]) == first.startswith('"')


def test_a_part_that_is_said_to_be_whole_is_not_believed_without_a_digest(serve, tmp_path):
    server = serve(head("416 Nothing", length=0), whole())
    assert get(server, tmp_path, part=OTHER, size=SIZE)
    assert (tmp_path / "model.bin").read_bytes() == BODY


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        (f'"{SHA256}"', "its size and the SHA-256 that the server states"),
        (f'"{GIT}"', "its size and the git SHA-1 that the server states"),
        ('"opaque"', "checked: its size"),
    ],
)
def test_a_line_says_what_was_checked_where_no_digest_is_published(tag, words, serve, tmp_path):
    notices: list[str] = []
    assert get(serve(whole(ETag=tag)), tmp_path, notices=notices, size=SIZE)
    assert len(notices) == 1 and words in notices[0]
    get(serve(b""), tmp_path, notices=notices, size=SIZE)
    assert "was there" in notices[1]


@pytest.mark.parametrize("tag", [SHA256, GIT, f'W/"{GIT}"'])
def test_a_digest_that_the_server_states_has_to_be_that_of_its_file(tag, serve, tmp_path):
    assert "expected" in refused(serve(whole(OTHER, ETag=tag)), tmp_path, size=SIZE)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "sent", [head(length=0), head(length=None) + BODY, head(**CHUNKED) + b"0\r\n\r\n"]
)
def test_nothing_and_what_may_be_half_are_no_file(sent, serve, tmp_path):
    assert "end cannot be told" in refused(serve(sent), tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_there_is_compared_with_the_length_that_is_known(serve, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"mine")
    assert "another file" in refused(serve(whole()), tmp_path, size=SIZE)
    assert (tmp_path / "model.bin").read_bytes() == b"mine"


# Redirects.


class Reply(contextlib.nullcontext):
    """An answer without a body, as far as ``ask`` looks at one."""

    def __init__(self, location: str | None) -> None:
        super().__init__()
        self.status, self.headers = 200 if location is None else 302, Message()
        self.headers["Location"] = location or ""


def asked(monkeypatch, url: str, *locations: str) -> list[urllib.request.Request]:
    """Ask for an address whose answers lead to the given ones; return what is sent, as it comes."""
    sent: list[urllib.request.Request] = []
    answers = iter([*locations, None])
    monkeypatch.setattr(
        connection, "_sent", lambda request, pace: sent.append(request) or Reply(next(answers))
    )
    connection.ask(Source(url, token="secret"), {}, connection.Pace(1, 60))
    return sent


@pytest.mark.parametrize(
    "target",
    ["http://b/x", "HTTP://a/x", "ftp://b/x", "file:///x", "ws://b", "mailto:me", "https://:1"],
)
def test_https_is_left_for_nothing_else(target, monkeypatch):
    with pytest.raises(UserError, match="expected (https|a web address)"):
        asked(monkeypatch, "https://a/x", target)


def test_https_is_not_left_on_a_later_step_either(monkeypatch):
    with pytest.raises(UserError, match="unprotected"):
        asked(monkeypatch, "http://a/x", "https://a/x", "https://b/x", "http://a/x")


@pytest.mark.parametrize(
    ("target", "gets_it"),
    [
        ("https://a/other", True),
        ("/other", True),
        ("https://b/x", False),
        ("//b/x", False),
        ("https://a.b/x", False),
        ("https://a:8443/x", False),
    ],
)
def test_the_token_stays_with_its_host_and_port(target, gets_it, monkeypatch):
    sent = asked(monkeypatch, "https://a/x", target)
    assert [request.has_header("Authorization") for request in sent] == [True, gets_it]


def test_a_redirect_from_http_to_https_is_followed_without_the_token(monkeypatch):
    sent = asked(monkeypatch, "http://a/x", "https://a/x")
    assert [request.type for request in sent] == ["http", "https"]
    assert not sent[1].has_header("Authorization")


@pytest.mark.parametrize("url", ["ftp://h/x", "file:///etc/passwd", "http://", "https://u:p@h/x"])
def test_an_address_that_is_none_of_the_web_is_not_asked(url, tmp_path):
    with pytest.raises(UserError, match="no address to fetch from") as error:
        fetch(Source(url), tmp_path / "model.bin", patience=HASTY)
    assert "u:p" not in str(error.value)


# The disk.


def test_of_two_runs_at_once_the_second_says_so_and_leaves_the_first_alone(serve, tmp_path):
    with _alone(tmp_path / "model.bin.part") as file:
        file.write(BODY[:9])
        assert "another run" in refused(serve(whole()), tmp_path, **KNOWN)
        assert (tmp_path / "model.bin.part").read_bytes() == BODY[:9]
    assert get(serve(rest()), tmp_path, part=BODY[:BEFORE], **KNOWN)


def test_a_file_that_another_run_put_there_meanwhile_is_not_fetched_again(
    serve, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        fetching, "_lock", lambda file, part: (tmp_path / "model.bin").write_bytes(BODY)
    )
    server = serve(whole())
    assert not get(server, tmp_path, **KNOWN)
    assert server.requests == [] and os.listdir(tmp_path) == ["model.bin"]


def test_many_runs_at_once_end_with_the_file(serve, tmp_path):
    """One fetches it; the others find it there or say who has it."""

    def in_pieces(_url: str) -> Iterator[bytes]:
        for piece in (head(), BODY[:BEFORE], BODY[BEFORE:]):
            time.sleep(0.02)
            yield piece

    server, results = serve(in_pieces), []

    def run() -> None:
        for _ in range(20):
            try:
                results.append(get(server, tmp_path, **KNOWN))
            except UserError as error:
                assert "another run" in str(error)
                time.sleep(0.005)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(True) == 1 and len(results) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]
    assert (tmp_path / "model.bin").read_bytes() == BODY


def test_a_part_that_cannot_be_opened_is_one_line(serve, tmp_path):
    (tmp_path / "model.bin.part").mkdir()
    assert "cannot be written" in refused(serve(whole()), tmp_path, **KNOWN)

"""The end of serving: what has just been drawn is fetched, and answers under way are sent."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import urllib.request

import pytest

pytest.importorskip("fastapi", reason="needs the server's packages: pip install -e '.[server]'")

from apps.server import serving  # noqa: E402
from apps.server.asking import TextJob, settings_of  # noqa: E402
from apps.server.serving import Server  # noqa: E402


async def slow(scope, receive, send) -> None:
    """Answer with a word, the second half of which takes a while."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"pic", "more_body": True})
    await asyncio.sleep(0.5)
    await send({"type": "http.response.body", "body": b"ture"})


@contextlib.contextmanager
def served(service, grace: float):
    """Serve ``slow``; yields the server, its port and its thread."""
    ports: list[int] = []
    server = Server(
        slow, service, host="127.0.0.1", port=0, grace=grace, tell=lambda port: ports.append(port)
    )
    server.config.lifespan = "off"
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not ports:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server, ports[0], thread
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20.0)


def drawn(service):
    """Return a job that has just ended."""
    ticket = service.submit(settings_of({"prompt": "a cat", "ddim_steps": 2}, TextJob))
    assert ticket.wait(20.0)
    while service.kept.held == 0:
        time.sleep(0.01)
    return ticket


def test_what_ended_just_before_the_signal_can_still_be_fetched(serve):
    service = serve()
    ticket = drawn(service)
    with served(service, grace=20.0) as (server, _, thread):
        server.handle_exit(15, None)
        thread.join(0.5)
        assert thread.is_alive()
        ticket.fetched.add(0)
        thread.join(20.0)
        assert not thread.is_alive()


def test_what_ended_long_ago_is_not_waited_for(serve, monkeypatch):
    monkeypatch.setattr(serving, "RECENT", 0.0)
    service = serve()
    drawn(service)
    with served(service, grace=60.0) as (server, _, thread):
        server.handle_exit(15, None)
        thread.join(20.0)
        assert not thread.is_alive()


def test_an_answer_that_is_being_sent_has_what_is_left_of_the_grace(serve, monkeypatch):
    monkeypatch.setattr(serving, "CLOSING", 0)
    with (
        served(serve(), grace=20.0) as (server, port, _),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20.0) as answer,
    ):
        assert answer.read(3) == b"pic"
        server.handle_exit(15, None)
        assert answer.read() == b"ture"

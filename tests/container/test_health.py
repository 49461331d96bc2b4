"""HEALTHCHECK asks what the container's program really answers; others are well while they run."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from container import health

COMMAND = ["tini", "--", "python", "/app/container/run.py"]


def shown(*words: str) -> bytes:
    """Return the command line of process 1 as Linux shows it."""
    return b"".join(word.encode() + b"\0" for word in [*COMMAND, *words])


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["txt2img", "--port", "1"], None),
        (["train", "--train"], None),
        (["pages"], "http://127.0.0.1:7860/"),
        (["pages", "inpaint", "--port=80"], "http://127.0.0.1:80/"),
        (["swap_gradio", "--port", "81", "--port", "82"], "http://127.0.0.1:82/"),
        (["simulate"], "http://127.0.0.1:8000/"),
        (["simulate", "--port", "9000"], "http://127.0.0.1:9000/"),
        (["line-bot", "--simulate", "--port", "9000"], "http://127.0.0.1:9000/"),
        (["line-bot"], "http://127.0.0.1:8000/healthz"),
        (["line-bot", "--port", "90", "--host", "10.0.0.2"], "http://10.0.0.2:90/healthz"),
    ],
)
def test_each_kind_of_program_is_asked_where_it_answers(words, asked):
    assert health.address(health.started(shown(*words)), {}) == asked


def test_the_bots_port_comes_from_where_the_bot_takes_it(tmp_path):
    file = tmp_path / "bot.toml"
    file.write_text("port = 8100\n")
    words = ["line-bot", "--config-file", str(file)]
    assert health.address(words, {}) == "http://127.0.0.1:8100/healthz"
    assert health.address(words, {"LINE_BOT_PORT": "8200"}) == "http://127.0.0.1:8200/healthz"
    flag = [*words, "--port", "8300"]
    assert health.address(flag, {"LINE_BOT_PORT": "8200"}) == "http://127.0.0.1:8300/healthz"


def test_an_outer_init_does_not_hide_the_program():
    line = b"/sbin/docker-init\0--\0" + shown("pages")
    assert health.started(line) == ["pages"]


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers /healthz with the server's code."""

    def do_GET(self) -> None:
        self.send_response(self.server.code if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def bot() -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.code = 200
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def first(monkeypatch, tmp_path):
    """Return a function that says what process 1 was started with."""
    file = tmp_path / "cmdline"
    monkeypatch.setattr(health, "FIRST", file)
    return lambda *words: file.write_bytes(shown(*words))


@pytest.mark.parametrize(("code", "result"), [(200, 0), (503, 1)])
def test_the_bots_own_answer_decides(bot, first, code, result, capsys):
    bot.code = code
    first("line-bot", "--port", str(bot.server_port))
    assert health.main() == result
    assert capsys.readouterr().err == ("" if result == 0 else "not well: HTTP Error 503: " + SAYS)


SAYS = "Service Unavailable\n"


def test_a_bot_that_does_not_answer_is_not_well(bot, first, capsys):
    first("line-bot", "--port", "1")
    assert health.main() == 1
    assert capsys.readouterr().err.startswith("not well: ")


def test_a_program_that_serves_nothing_is_well(first):
    first("txt2img", "--prompt", "a cat")
    assert health.main() == 0


def test_a_foreign_first_process_is_not_well(first, monkeypatch, tmp_path, capsys):
    (tmp_path / "cmdline").write_bytes(b"sh\0")
    assert health.main() == 1
    assert "expected this image's entry point" in capsys.readouterr().err

"""A stand-in on a clock of the test's own, LINE's SDK pointed at it, a bot that only listens."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest
from PIL import Image

# The bot's packages are an extra, `[line]`: each test file skips without them, so nothing here may
# import them before a test asks.


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Ear:
    """A bot that keeps what it is sent and answers with the statuses it is given, then with 200."""

    bodies: list[tuple[bytes, str | None]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def app(self):
        from starlette.applications import Starlette
        from starlette.responses import Response
        from starlette.routing import Route

        async def callback(request):
            self.bodies.append((await request.body(), request.headers.get("x-line-signature")))
            return Response(status_code=self.statuses.pop(0) if self.statuses else 200)

        def image(request):
            kind, data = PICTURES[request.path_params["name"]]
            return Response(data, media_type=kind)

        return Starlette(
            routes=[Route("/callback", callback, methods=["POST"]), Route("/images/{name}", image)]
        )


def picture(kind: str = "JPEG", colour: str = "teal") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(file, kind)
    return file.getvalue()


PICTURES = {
    "small.jpg": ("image/jpeg", picture()),
    "small.png": ("image/png", picture("PNG")),
    "liar.jpg": ("image/jpeg", b"<html>"),
    "page.html": ("text/html", b"<html>"),
    "2mb.jpg": ("image/jpeg", picture() + bytes(2 * 2**20)),
    "11mb.jpg": ("image/jpeg", picture() + bytes(11 * 2**20)),
}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def line(clock):
    from apps.line_bot.simulate import StandIn

    with StandIn(clock=clock, patience=5.0, redeliver_after=(10.0, 60.0)) as line:
        yield line


@pytest.fixture
def ear(line):
    from apps.line_bot.simulate.serving import Served

    ear = Ear()
    served = Served(ear.app())
    served.start()
    line.connect(f"{served.address}/callback", {"https://bot.example": served.address})
    yield ear
    served.end()


@pytest.fixture
def configuration(line):
    from linebot.v3.messaging import Configuration

    return Configuration(host=line.address, access_token=line.access_token)


@pytest.fixture
def api(configuration):
    from linebot.v3.messaging import ApiClient, MessagingApi

    with ApiClient(configuration) as client:
        yield MessagingApi(client)


@pytest.fixture
def blob(configuration):
    from linebot.v3.messaging import ApiClient, MessagingApiBlob

    with ApiClient(configuration) as client:
        yield MessagingApiBlob(client)


@pytest.fixture
def pictures():
    """What the listening bot serves under /images/: name -> content type and bytes."""
    return PICTURES

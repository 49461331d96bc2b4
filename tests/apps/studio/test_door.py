"""The door: without name and password nothing passes, whatever is asked for."""

from __future__ import annotations

import base64

import pytest

testclient = pytest.importorskip(
    "starlette.testclient", reason="needs gradio: pip install -e '.[web]'"
)

from apps.studio import door  # noqa: E402
from optimizedSD.web.bodies import Receive, Scope, Send  # noqa: E402


class Inner:
    """Notes what reaches it."""

    def __init__(self):
        self.seen = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})


@pytest.fixture
def inner():
    return Inner()


@pytest.fixture
def visitor(inner, monkeypatch):
    monkeypatch.setattr(door, "PAUSE", 0.0)
    return testclient.TestClient(door.Door(inner, "ada:love:lace"))


def header(text, kind="Basic"):
    return {"Authorization": f"{kind} {base64.b64encode(text.encode()).decode()}"}


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/file=out/x.png", "/nothing"])
def test_nobody_passes_without_a_password(path, visitor, inner):
    answer = visitor.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert inner.seen == []


def test_who_knows_it_passes(visitor, inner):
    assert visitor.get("/", headers=header("ada:love:lace")).text == "in"
    assert visitor.post("/x", headers=header("ada:love:lace", "basic")).status_code == 200
    assert inner.seen == ["/", "/x"]


@pytest.mark.parametrize(
    "given",
    [
        header("ada:lovelace"),
        header("ada"),
        header(""),
        header("ada:love:lace", "Bearer"),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + "QUFB" * 100_000},
        {"Authorization": "Basic"},
    ],
)
def test_a_wrong_one_does_not(given, visitor, inner):
    assert visitor.get("/", headers=given).status_code == 401
    assert inner.seen == []


def test_what_gradio_asks_itself_when_it_starts_is_answered(visitor):
    assert visitor.get("/gradio_api/startup-events").status_code == 200

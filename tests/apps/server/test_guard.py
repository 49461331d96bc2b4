"""Strangers' names, pages of strangers and bodies without end are turned away."""

from __future__ import annotations

import asyncio
import base64
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

for name in ("fastapi", "prometheus_client", "starlette.testclient"):
    pytest.importorskip(name, reason="needs the server's packages: pip install -e '.[server]'")

from flat_server import asked, flat_service, sent  # noqa: E402
from PIL import Image  # noqa: E402

from apps.server import guard  # noqa: E402
from optimizedSD.web.limits import Limits  # noqa: E402

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "a b"])
def test_a_name_that_is_not_the_servers_is_refused(open_to, host):
    answer = open_to().get("/healthz", headers={"host": host})
    assert answer.status_code == 400 and list(answer.json()) == ["error"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:7860", "[::1]:7860"])
def test_this_machines_own_names_are_answered(open_to, host):
    assert open_to().get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "x"])
def test_a_page_of_another_origin_is_refused_before_its_request_is_read(open_to, drawer, origin):
    answer = open_to().post(
        "/v1/jobs", content=b'{"prompt": "x"}', headers={**JSON, "origin": origin}
    )
    assert answer.status_code == 403 and drawer.batches == []
    assert "access-control-allow-origin" not in answer.headers


def test_an_origin_that_the_operator_allows_may_read_answers(open_to):
    page = "https://draw.example.org"
    client = open_to(cors=[page])
    answer = client.get("/healthz", headers={"origin": page})
    assert answer.headers["access-control-allow-origin"] == page
    wanted = {"origin": page, "access-control-request-method": "POST"}
    assert client.options("/v1/jobs", headers=wanted).status_code == 200
    assert client.get("/healthz", headers={"origin": "https://other.example"}).status_code == 403


@pytest.mark.parametrize("told", [True, False], ids=["with its length", "in chunks"])
def test_no_more_of_a_body_is_read_than_is_allowed(open_to, told):
    client = open_to(limits=Limits(upload=1000))
    read = []

    def chunks():
        for _ in range(1000):
            read.append(100)
            yield b" " * 100

    body = b" " * 1001 if told else chunks()
    answer = client.post("/v1/jobs", content=body, headers=JSON)
    assert answer.status_code == 413 and "at most 1000 bytes" in answer.json()["error"]
    fits = client.post("/v1/jobs", content=b"{}" + b" " * 998, headers=JSON)
    assert fits.status_code == 202


@pytest.mark.parametrize("length", ["x", "-1", "9" * 30])
def test_a_length_that_is_none_is_refused(open_to, length):
    headers = {**JSON, "content-length": length}
    assert open_to().post("/v1/jobs", content=b"{}", headers=headers).status_code == 413


def test_a_body_has_to_arrive_whole_in_its_time_however_often_a_part_does(open_to, monkeypatch):
    own, sent_on = guard_of(open_to()), []
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)

    async def drip():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def reads(scope, receive, send):
        for _ in range(100):
            await receive()

    async def send(message):
        sent_on.append(message)

    scope = {"type": "http", "method": "POST", "headers": [(b"host", b"localhost")]}
    slow = guard.Guard(reads, own.hosts, own.metrics, most=1000)
    asyncio.run(slow(scope, drip, send))
    assert sent_on[0]["status"] == 408 and b"longer than 0.3 s" in sent_on[1]["body"]
    assert slow.held == 0


def test_all_bodies_together_have_a_limit_that_is_given_back(open_to, monkeypatch):
    monkeypatch.setattr(guard, "SERVER_BODIES", 1000)
    client = open_to()
    for _ in range(3):
        answer = client.post("/v1/jobs", content=b" " * 1001, headers=JSON)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
        assert client.post("/v1/jobs", content=b"{}", headers=JSON).status_code == 202


def guard_of(client) -> guard.Guard:
    app = client.app.middleware_stack
    while not isinstance(app, guard.Guard):
        app = app.app
    return app


@pytest.fixture
def held_while_drawn():
    """Return what sends a request and tells the bytes that are held while it is drawn."""
    service, drawer = flat_service()
    with asked(service) as client, ThreadPoolExecutor(1) as pool:

        def held(path: str, **body) -> int:
            drawer.gate.clear()
            before = len(drawer.drawn)
            answer = pool.submit(client.post, path, **body)
            try:
                while len(drawer.drawn) == before and not answer.done():
                    time.sleep(0.01)
                return guard_of(client).held
            finally:
                drawer.gate.set()
                assert answer.result(20).status_code in (200, 202), answer.result().text

        yield held
        assert guard_of(client).held == 0


def test_a_body_counts_no_longer_once_its_pictures_are_read(held_while_drawn):
    image = Image.new("RGBA", (64, 64))
    data = base64.b64decode(sent(image))
    small = {"width": 64, "height": 64, "steps": 1, "init_images": [sent(image)]}
    assert held_while_drawn("/sdapi/v1/img2img", json=small) == 0
    assert held_while_drawn("/sdapi/v1/txt2img", json={"steps": 1, "comments": "x" * 9000}) == 0
    form = {"data": {"prompt": "x", "steps": "1"}, "files": {"image": ("x.png", data)}}
    assert held_while_drawn("/v1/images/edits", **form) == 0
    assert held_while_drawn("/v1/jobs", json={"prompt": "x", "image": sent(image)}) == 0


def test_a_body_counts_as_long_as_its_pictures_are_kept_to_be_sent_back(held_while_drawn):
    text = sent(Image.new("RGB", (64, 64)))
    wanted = {"init_images": [text], "include_init_images": True}
    given = {"width": 64, "height": 64, "steps": 1, **wanted}
    assert held_while_drawn("/sdapi/v1/img2img", json=given) > len(text)


def test_too_many_open_requests_are_503(open_to, monkeypatch):
    monkeypatch.setattr(guard, "SERVER_REQUESTS", 0)
    assert open_to().get("/healthz").status_code == 503


def test_every_answer_says_that_it_is_no_page_and_not_to_be_kept(open_to):
    client = open_to()
    for path in ("/healthz", "/nothing", "/v1/fields"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_a_fault_of_the_servers_is_500_in_one_line(open_to, monkeypatch):
    client = open_to()

    def fail(*_):
        raise RuntimeError("/srv/secret")

    monkeypatch.setattr(client.service, "find", fail)
    answer = client.get("/v1/jobs/x")
    assert answer.status_code == 500 and list(answer.json()) == ["error"]
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    counted = 'ldm_server_requests_total{method="GET",status="500"} 1.0'
    assert counted in client.get("/metrics").text


def test_an_answer_that_fails_after_its_start_is_not_answered_again(open_to):
    own, sent_on = guard_of(open_to()), []

    async def breaks(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("broken")

    async def send(message):
        sent_on.append(message["type"])

    scope = {"type": "http", "method": "GET", "headers": [(b"host", b"localhost")]}
    broken = guard.Guard(breaks, own.hosts, own.metrics, most=10)
    with pytest.raises(RuntimeError):
        asyncio.run(broken(scope, None, send))
    assert sent_on == ["http.response.start"]

"""Jobs by HTTP: sent as JSON or as a form, looked at, fetched, cancelled; each for its own key."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

for name in ("fastapi", "prometheus_client", "starlette.testclient", "python_multipart"):
    pytest.importorskip(name, reason="needs the server's packages: pip install -e '.[server]'")

import anyio.to_thread  # noqa: E402
from PIL import Image  # noqa: E402
from starlette.concurrency import run_in_threadpool  # noqa: E402

from apps.server import answers, native  # noqa: E402
from apps.server.front.holding import MOST_HELD  # noqa: E402
from apps.server.keys import Keys  # noqa: E402
from apps.server.service import Terms  # noqa: E402
from ldm.images.embed import parameters_in  # noqa: E402
from optimizedSD.web.limits import Limits  # noqa: E402

JOB = {"prompt": "a cat", "ddim_steps": 2, "seed": 7}
KEYS = Keys({each: hashlib.sha256(f"key of {each}".encode()).hexdigest() for each in ("a", "b")})


def of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key of {key}"}


def picture(size=(64, 64), mode="RGB", colour=0) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def begun(client, fields=JOB, **rest) -> str:
    answer = client.post("/v1/jobs", json=fields, **rest)
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{found['id']}"
    return answer.headers["location"]


def ended(client, place: str, **rest) -> dict:
    """Follow a job's events to the end; return the last one's data."""
    with client.stream("GET", f"{place}/events", **rest) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [block for block in answer.read().decode().split("\n\n") if block]
    kinds = [event.split("\n")[0] for event in events]
    last = json.loads(events[-1].split("data: ")[1])
    assert kinds[-1] == f"event: {last['state']}"
    return last


def test_a_job_is_sent_followed_and_its_pictures_fetched_with_their_recipes(open_to):
    client = open_to()
    place = begun(client, {**JOB, "n_samples": 2})
    last = ended(client, place)
    assert (last["state"], last["done"], last["total"], last["fraction"]) == ("done", 2, 2, 1.0)
    assert [each["seed"] for each in last["pictures"]] == [7, 8]
    for each in last["pictures"]:
        answer = client.get(each["href"])
        assert answer.headers["content-type"] == "image/png"
        with Image.open(io.BytesIO(answer.content)) as image:
            recipe = f"a cat\nSteps: 1, CFG scale: 3.0, Seed: {each['seed']}"
            assert parameters_in(image) == recipe
    assert client.get(place).json() == last


def test_a_job_that_waits_says_how_many_are_ahead(open_to, drawer):
    client = open_to()
    drawer.gate.clear()
    first = begun(client)
    drawer.wait_for_batches(1)
    begun(client, {**JOB, "n_samples": 3})
    last = begun(client, {**JOB, "ddim_steps": 3})
    told = client.get(last).json()
    assert (told["state"], told["ahead"], told["pictures"]) == ("queued", 3, [])
    assert client.get(first).json()["state"] == "drawing"
    assert "no picture 0 yet" in client.get(f"{last}/pictures/0").json()["error"]


def test_a_job_is_cancelled_and_an_ended_one_forgotten(open_to, drawer):
    client = open_to()
    drawer.gate.clear()
    places = [begun(client), begun(client)]
    assert client.delete(places[1]).json()["state"] == "cancelled"
    assert client.get(f"{places[1]}/pictures/0").status_code == 409
    assert client.delete(places[1]).status_code == 200
    assert client.get(places[1]).status_code == 404
    drawer.gate.set()
    assert ended(client, places[0])["state"] == "done"
    assert client.delete(places[0]).json()["state"] == "done"
    assert client.get(places[0]).status_code == 404


def test_a_job_that_fails_says_why_and_its_notices_are_told(open_to, drawer):
    client = open_to()

    def fails(_):
        raise ValueError("secret")

    told = ended(client, begun(client, {**JOB, "scale": 1.0, "negative_prompt": "x"}))
    assert "negative_prompt has no effect at scale 1" in " ".join(told["notices"])
    drawer.fails = fails
    told = ended(client, begun(client))
    assert told["state"] == "failed" and "fault of the server" in told["error"]
    assert "secret" not in str(told)
    assert client.get(f"/v1/jobs/{told['id']}/pictures/0").status_code == 500


def test_a_picture_to_start_from_comes_in_base64_or_in_a_form(open_to, drawer):
    client, data = open_to(), picture((96, 64))
    mask = picture(mode="L", size=(96, 64), colour=255)
    bodies = [
        {"json": {**JOB, "image": base64.b64encode(data).decode()}},
        {"json": {**JOB, "image": "data:image/png;base64," + base64.b64encode(data).decode(),
                  "mask": base64.b64encode(mask).decode()}},
        {"data": {"job": json.dumps(JOB)}, "files": {"image": ("x", data)}},
        {"files": {"job": (None, json.dumps(JOB)), "image": ("/etc/passwd", data),
                   "mask": ("..", mask)}},
    ]  # fmt: skip
    for body in bodies:
        answer = client.post("/v1/jobs", **body)
        assert answer.status_code == 202, answer.text
        last = ended(client, answer.headers["location"])
        assert [(p["width"], p["height"]) for p in last["pictures"]] == [(96, 64)]


def test_a_picture_is_drawn_on_without_a_mask(open_to, drawer):
    client = open_to()
    sent = {**JOB, "outpaint": "0,0,32,0", "image": base64.b64encode(picture((64, 64))).decode()}
    answer = client.post("/v1/jobs", json=sent)
    assert answer.status_code == 202, answer.text
    (picture_told,) = ended(client, answer.headers["location"])["pictures"]
    assert (picture_told["width"], picture_told["height"]) == (96, 64)


BAD = [
    ({"json": {"outpaint": "1,2,3,4"}}, 422, "it goes with a picture to start from"),
    ({"json": {"promt": "x"}}, 422, "did you mean prompt?"),
    ({"json": {"ckpt": "/etc/passwd"}}, 422, "operator decides"),
    ({"json": {"init_img": "/etc/passwd"}}, 422, "operator decides"),
    ({"json": {"prompt": ["x"]}}, 422, "prompt ['x'] was given"),
    ({"json": {"H": 65}}, 422, "H 65"),
    ({"json": {"image": "http://127.0.0.1:1/x.png"}}, 422, "not followed"),
    ({"json": {"image": ["x"]}}, 422, "image is no text"),
    ({"json": {"mask": base64.b64encode(picture()).decode()}}, 422, "mask was given without image"),
    ({"json": []}, 400, "no JSON object"),
    ({"json": None}, 415, "expected application/json"),
    ({"json": "x"}, 400, "no JSON object"),
    ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "no JSON"),
    ({"content": b"\xff", "headers": {"content-type": "application/json"}}, 400, "no JSON"),
    ({"content": b'{"seed": NaN}', "headers": {"content-type": "application/json"}}, 400, "JSON"),
    ({"content": b"[" * 10**5, "headers": {"content-type": "application/json"}}, 400, "JSON"),
    ({"content": b'{"a":[' + b"[]," * 50_000 + b"[]]}",
      "headers": {"content-type": "application/json"}}, 413, "at most 100000 values"),
    ({"files": {"job": ("x", b'{"a":[' + b"1," * 100_000 + b"1]}")}}, 413, "values"),
    ({"content": b'{"a":' * 50 + b"1" + b"}" * 50,
      "headers": {"content-type": "application/json"}}, 400, "levels deep"),
    ({"content": b'{"seed": 1' + b"0" * 5000 + b"}",
      "headers": {"content-type": "application/json"}}, 400, "JSON"),
    ({"content": b"prompt=x", "headers": {"content-type": "text/plain"}}, 415, "application/json"),
    ({"data": {"prompt": "x"}}, 415, "application/json"),
    ({"files": {"job": (None, "{"), "image": ("x", b"x")}}, 400, "no JSON"),
    ({"files": {"job": (None, "{}"), "image": ("x", b"x")}}, 422, "image cannot be read"),
    ({"files": {"job": (None, "{}"), "image": ("x", b"")}}, 422, "image is empty"),
    ({"files": {"job": (None, "{}"), "other": ("x", b"x")}}, 422, "part 'other' is unknown"),
    ({"files": [("job", (None, "{}")), ("job", (None, "{}"))]}, 422, "'job' is there twice"),
    ({"files": [("image", ("x", b"x")), ("image", ("x", b"x"))]}, 422, "'image' is there twice"),
    ({"content": b'--y\r\nContent-Disposition: form-data; name="job"\r\n\r\n{}\r\n--y\r\n',
      "headers": {"content-type": "multipart/form-data; boundary=y"}}, 400, "has no end"),
    ({"files": {"job": (None, "x" * 2**21)}}, 400, ""),
    ({"content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=y"}}, 400, ""),
    ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, 400, ""),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "told"), BAD, ids=range(len(BAD)))
def test_a_bad_job_is_refused_in_one_line_and_nothing_is_queued(
    open_to, drawer, body, status, told
):
    client = open_to()
    answer = client.post("/v1/jobs", **body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    error = answer.json()["error"]
    assert told in error and "\n" not in error and 0 < len(error) <= 2000
    assert "Traceback" not in error and drawer.batches == []


def test_a_form_that_is_cut_off_is_not_drawn_without_what_is_missing(open_to, drawer):
    client = open_to()
    parts = {"job": (None, json.dumps(JOB)), "image": ("x", picture())}
    request = client.build_request("POST", "/v1/jobs", files=parts)
    body = request.read()
    kind = {"content-type": request.headers["content-type"]}
    for end in (len(body) - 5, len(body) - 300, body.index(b"image") + 3, 100):
        answer = client.post("/v1/jobs", content=body[:end], headers=kind)
        assert answer.status_code == 400 and "the form" in answer.json()["error"]
    assert drawer.batches == []
    assert client.post("/v1/jobs", content=body, headers=kind).status_code == 202


def test_a_full_queue_is_429_with_the_seconds_to_wait(open_to, drawer):
    client = open_to(terms=Terms(max_wait=0.0, queued=1, queued_of_key=1))
    drawer.gate.clear()
    begun(client)
    drawer.wait_for_batches(1)
    begun(client)
    answer = client.post("/v1/jobs", json=JOB)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert client.get("/readyz").status_code == 503


def test_jobs_belong_to_their_keys_and_are_not_there_for_others(open_to):
    client = open_to(KEYS)
    place = begun(client, headers=of("a"))
    ended(client, place, headers=of("a"))
    for path in (place, f"{place}/events", f"{place}/pictures/0"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers=of("c")).headers["www-authenticate"] == "Bearer"
        assert client.get(path, headers=of("b")).status_code == 404
        assert client.get(path, headers=of("a")).status_code == 200
    assert client.delete(place, headers=of("b")).status_code == 404
    assert client.post("/v1/jobs", json=JOB).status_code == 401
    assert client.get("/v1/fields").status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs/x", "/v1/jobs/..%2f..%2fetc%2fpasswd", "/v1/jobs/%00", "/v1/jobs/x/pictures/0",
     "/", "/docs", "/openapi.json", "/v1/../etc/passwd", "/v1/jobs/" + "x" * 5000],
)  # fmt: skip
def test_what_is_not_there_is_404_in_one_line(open_to, path):
    answer = open_to().get(path)
    assert answer.status_code in (404, 405) and list(answer.json()) == ["error"]


@pytest.mark.parametrize("number", ["x", "-1", "1e9", "9" * 30, "%F0"])
def test_a_picture_of_no_such_number_is_refused(open_to, number):
    client = open_to()
    place = begun(client)
    ended(client, place)
    answer = client.get(f"{place}/pictures/{number}")
    assert answer.status_code in (404, 422) and list(answer.json()) == ["error"]


def test_what_can_be_set_is_told_with_the_servers_limits(open_to):
    found = open_to(limits=Limits(side=128)).get("/v1/fields").json()
    assert found["limits"]["side"] == 128 and found["model"]["name"] == "demo"
    text, image = found["fields"]["text"], found["fields"]["image"]
    assert "strength" in image and "strength" not in text and "ckpt" not in text
    assert "ddim" in text["sampler"]["choices"] and text["seed"]["minimum"] == 0


def test_a_drained_server_hands_back_and_is_not_ready(open_to, drawer):
    client = open_to()
    drawer.gate.clear()
    first = begun(client)
    drawer.wait_for_batches(1)
    second = begun(client)
    assert client.get("/readyz").json() == {"ready": True}
    client.service.drain()
    answer = client.get(second)
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
    assert client.post("/v1/jobs", json=JOB).status_code == 503
    assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
    drawer.gate.set()
    assert ended(client, first)["state"] == "done"
    assert client.get(f"{first}/pictures/0").status_code == 200


def test_metrics_count_and_tell_no_prompt(open_to):
    client = open_to(KEYS)
    ended(client, begun(client, {**JOB, "n_samples": 3}, headers=of("a")), headers=of("a"))
    text = client.get("/metrics").text
    for line in ("pictures_total 3.0", 'jobs_total{state="done"} 1.0', "waiting_pictures 0.0",
                 "batch_pictures_count 1.0", "ready 1.0",
                 'requests_total{method="POST",status="202"} 1.0'):  # fmt: skip
        assert f"ldm_server_{line}\n" in text
    assert "cat" not in text and "key of" not in text


def test_a_picture_is_not_decoded_for_a_job_that_may_not_wait(open_to, drawer, monkeypatch):
    client = open_to(terms=Terms(max_wait=0.0, queued_of_key=1))
    drawer.gate.clear()
    begun(client)
    drawer.wait_for_batches(1)
    begun(client)
    decoded: list[str] = []
    monkeypatch.setattr(native, "picture_of", lambda _, name: decoded.append(name))
    files = {"job": (None, json.dumps(JOB)), "image": ("x", picture())}
    assert client.post("/v1/jobs", files=files).status_code == 429
    assert decoded == []


def test_pictures_of_jobs_count_among_those_that_are_kept(open_to, drawer):
    client = open_to()
    files = {"job": (None, json.dumps(JOB)), "image": ("x", picture())}
    holding = client.app.state.holding
    with holding.kept(MOST_HELD - 64 * 64 + 1):
        answer = client.post("/v1/jobs", files=files)
        assert answer.status_code == 429 and "megapixels" in answer.json()["error"]
        begun(client)  # of text alone
    assert client.post("/v1/jobs", files=files).status_code == 202


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_are_answered_while_all_threads_are_busy(open_to, path):
    client = open_to()
    taken = threading.Semaphore(0)
    done = threading.Event()

    def busy() -> None:
        taken.release()
        done.wait(20)

    async def fill() -> list[asyncio.Future]:
        count = int(anyio.to_thread.current_default_thread_limiter().total_tokens)
        return [asyncio.ensure_future(run_in_threadpool(busy)) for _ in range(count)]

    client.portal.call(fill)
    try:
        for _ in range(40):
            assert taken.acquire(timeout=20)
        with ThreadPoolExecutor(1) as pool:
            try:
                assert pool.submit(client.get, path).result(5).status_code == 200
            finally:
                done.set()
    finally:
        done.set()


def test_json_is_read_in_a_thread_so_that_others_are_answered_meanwhile(open_to, monkeypatch):
    client, begun, gate = open_to(), threading.Event(), threading.Event()
    loads = json.loads

    def slow(*values, **rest):
        begun.set()
        assert gate.wait(20)
        return loads(*values, **rest)

    with ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(answers.json, "loads", slow)
        jobs = {"json": JOB}, {"files": {"job": (None, json.dumps(JOB)), "image": ("x", picture())}}
        for job in jobs:
            begun.clear(), gate.clear()
            sent = pool.submit(client.post, "/v1/jobs", **job)
            try:
                assert begun.wait(20)
                assert pool.submit(client.get, "/healthz").result(5).status_code == 200
            finally:
                gate.set()
            assert sent.result(20).status_code == 202

"""Webhooks are checked on their raw bytes, stored once, and answered at once."""

from __future__ import annotations

import json
import random
import sqlite3
import time

import pytest
from bot_parts import Stage
from fake_line import message, signature, signed
from fastapi.testclient import TestClient

from apps.line_bot.application import application
from apps.line_bot.webhook import LARGEST_BODY, Webhook, make_app


@pytest.fixture
def client(stage):
    with TestClient(make_app(stage.webhook, stage.bot.gallery, stage.bot.alive)) as client:
        yield client


def post(client, body: bytes, sign: str | None = None) -> int:
    headers = {"X-Line-Signature": signature(body) if sign is None else sign}
    return client.post("/callback", content=body, headers=headers).status_code


def stored(stage) -> list[str]:
    return [row["event_id"] for row in stage.bot.base.rows("SELECT * FROM events ORDER BY id")]


def test_a_signed_webhook_is_stored_and_answered_with_200(stage, client):
    body, sign = signed([message("1", "猫"), message("2", "犬")])
    assert post(client, body, sign) == 200
    assert stored(stage) == ["E1", "E2"]


def test_a_forged_or_unsigned_webhook_is_refused_with_400_and_leaves_nothing(stage, client):
    body, sign = signed([message("1", "cat")])
    for wrong in ("", "x", sign[:-2] + "A=", sign.lower(), "é", sign + " "):
        assert stage.webhook.take(body, wrong).status_code == 400
    assert client.post("/callback", content=body).status_code == 400
    # The same JSON in other bytes is another body.
    assert post(client, json.dumps(json.loads(body), indent=1).encode(), sign) == 400
    assert stored(stage) == []


def test_replayed_and_redelivered_events_are_stored_once_among_new_ones(stage, client):
    first, again = message("1", "cat"), message("1", "cat")
    again["deliveryContext"]["isRedelivery"] = True
    for events in ([first], [first], [message("2", "dog"), again, again]):
        assert post(client, *signed(events)) == 200
    assert stored(stage) == ["E1", "E2"]


def test_a_body_of_1_mb_is_taken_and_one_byte_more_is_refused_with_413(stage, client):
    body, _ = signed([message("1", "x")])
    full = body + b" " * (LARGEST_BODY - len(body))
    assert post(client, full) == 200
    assert post(client, full + b" ") == 413

    def parts():  # chunked: no length is told
        yield full
        yield b" "

    answer = client.post("/callback", content=parts(), headers={"X-Line-Signature": "x"})
    assert answer.status_code == 413
    assert stored(stage) == ["E1"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"events": 1}', b'{"events": [1]}', b'{"event": []}', b"\xff\xfe"]
    + [b"[" * 100_000, b'{"events":' + b"[" * 100_000, b'{"events":[{"a":' + b"9" * 5000 + b"}]}"],
)
def test_a_signed_body_that_is_none_of_lines_is_answered_with_400(stage, client, body):
    assert post(client, body) == 400 and stored(stage) == []


def test_lines_test_of_the_address_which_has_no_events_is_answered_with_200(client):
    assert post(client, *signed([])) == 200


def test_any_signed_event_is_stored_read_and_done_with(stage):
    draw = random.Random(3)
    pieces = [None, 1, -1, 10**30, 1.5, "x", "\ud800", "\0", [], {}, True, "text", "message"]
    for number in range(300):
        made = message(str(number), "cat", sent=stage.clock())
        for _ in range(draw.randrange(1, 4)):
            inner = draw.choice([made, made["source"], made["message"], made["deliveryContext"]])
            if isinstance(inner, dict) and inner:
                inner[draw.choice(list(inner))] = draw.choice(pieces)
            made = made if isinstance(made, dict) else {}
            made.setdefault("message", {})
            for name in ("source", "message", "deliveryContext"):
                made[name] = made[name] if isinstance(made.get(name), dict) else {}
        body = json.dumps({"events": [made]}).encode()
        assert stage.webhook.take(body, signature(body)).status_code == 200
    while stage.bot.intake.step():
        pass
    states = stage.bot.base.rows("SELECT state, reason FROM events")
    assert {row["state"] for row in states} == {"read"}, [r["reason"] for r in states if r[1]]


def test_a_webhook_that_cannot_be_stored_is_not_answered_with_200(stage):
    other = sqlite3.connect(stage.bot.base.folder / "bot.db", isolation_level=None)
    stage.bot.base.rows("PRAGMA busy_timeout=50")
    other.execute("BEGIN IMMEDIATE")
    assert stage.webhook.take(*signed([message("1", "cat")])).status_code == 503
    other.execute("ROLLBACK")
    assert stage.webhook.take(*signed([message("1", "cat")])).status_code == 200
    assert stored(stage) == ["E1"]


def test_a_full_disk_loses_no_webhook_that_was_answered_with_200(stage):
    pages = stage.bot.base.row("PRAGMA page_count")[0]
    stage.bot.base.rows(f"PRAGMA max_page_count={pages + 1}")
    large = [message(str(n), "x" * 4000) for n in range(20)]
    answers = {each["webhookEventId"]: stage.webhook.take(*signed([each])) for each in large}
    kept = [name for name, answer in answers.items() if answer.status_code == 200]
    assert {answer.status_code for answer in answers.values()} == {200, 503}
    assert stored(stage) == kept
    stage.bot.base.rows("PRAGMA max_page_count=1000000")
    assert stage.webhook.take(*signed(large)).status_code == 200 and len(stored(stage)) == 20


def test_the_webhook_is_answered_at_once_while_line_hangs_and_a_model_draws(tmp_path):
    def slow(job, folder, check):
        time.sleep(0.5)
        (folder / "0.png").write_bytes(b"x")

    stage = Stage(tmp_path, "http://127.0.0.1:9")
    took = []
    with TestClient(application(stage.bot, stage.secrets, [lambda: slow])) as client:
        for number in range(20):
            begun = time.perf_counter()
            assert post(client, *signed([message(str(number), "cat")])) == 200
            took.append(time.perf_counter() - begun)
        assert client.get("/healthz").json()["ok"]
    assert sorted(took)[-2] < 0.2


def test_health_tells_of_a_thread_that_has_ended(stage):
    def broken():
        raise OSError("no model")

    with TestClient(application(stage.bot, stage.secrets, [broken])) as client:
        for _ in range(100):
            answer = client.get("/healthz")
            if answer.status_code == 503:
                break
            time.sleep(0.02)
        assert answer.json() == {"ok": False, "waiting": 0, "ready": False, "ended": ["worker 0"]}


@pytest.mark.parametrize(
    "path",
    ["../bot.db", "..%2fbot.db", "%2e%2e/bot.db", "....//bot.db", "/etc/passwd", "%00.jpg", "x.jpg"]
    + ["0" * 32, "0" * 32 + ".png", "0" * 31 + ".jpg", "0" * 32 + ".jpg.jpg", "..\\bot.db"]
    + ["0" * 32 + ".jpg%00", "G" * 32 + ".jpg", "0" * 32 + "%0a.jpg"],
)
def test_nothing_but_a_pictures_own_name_leads_to_a_file(stage, client, path):
    stage.bot.gallery.store.folder.mkdir()
    assert client.get(f"/pictures/{path}").status_code == 404


def delivered_urls(stage) -> tuple[str, str]:
    stage.hear(message("1", "cat", sent=stage.clock()))
    stage.work()
    (found,) = stage.line.arrived[-1][1]
    return found["originalContentUrl"], found["previewImageUrl"]


def test_pictures_are_served_with_type_ranges_and_expiry(stage, client):
    url, preview = delivered_urls(stage)
    path = url.removeprefix("https://bot.example")
    whole = client.get(path)
    assert whole.status_code == 200 and whole.headers["content-type"] == "image/jpeg"
    assert whole.content[:3] == b"\xff\xd8\xff" and url != preview
    part = client.get(path, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == whole.content[10:20]
    assert client.head(path).headers["content-length"] == str(len(whole.content))
    stage.clock.now += stage.settings.keep_hours * 3600 + 1
    assert client.get(path).status_code == 404


def test_old_pictures_are_removed_from_the_disk_and_young_ones_are_not(stage, client):
    delivered_urls(stage)
    folder = stage.bot.gallery.store.folder
    (job,) = stage.jobs()
    drawn = stage.bot.queue.folder(job["name"])
    stage.bot.gallery.clean()
    assert len(list(folder.iterdir())) == 2 and drawn.is_dir()
    stage.clock.now += stage.settings.keep_hours * 3600 + 1
    stage.bot.gallery.clean()
    assert not list(folder.iterdir()) and not drawn.exists() and not stage.jobs()
    assert not stage.bot.base.rows("SELECT * FROM pictures")


def test_the_signature_is_that_of_lines_own_sdk(stage):
    from linebot.v3.webhook import SignatureValidator

    body, sign = signed([message("1", "猫")])
    assert SignatureValidator("channel-secret-for-tests").validate(body.decode(), sign)
    assert isinstance(stage.webhook, Webhook)

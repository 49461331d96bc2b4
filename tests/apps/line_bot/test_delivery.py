"""Deliveries arrive once: by reply while the token is fresh, else by push with one retry key."""

from __future__ import annotations

import socket
import uuid

import pytest
from bot_parts import Stage, draw
from fake_line import message

HOUR = 3600.0


def ask(stage, name="1", text="cat", age=0.0) -> None:
    stage.hear(message(name, text, sent=stage.clock() - age))


def sends(line) -> list[str]:
    return [
        path.rpartition("/")[2] for path, _, _ in line.calls if "message/" in path and _sends(path)
    ]


def _sends(path: str) -> bool:
    return path.endswith(("/reply", "/push"))


def keys(line) -> set[str]:
    return {key for path, _, key in line.calls if path.endswith("/push")}


def states(stage) -> list[str]:
    return [row["state"] for row in stage.jobs()]


def test_a_fresh_event_is_replied_to_and_nothing_is_pushed(stage, line):
    ask(stage)
    stage.work()
    assert sends(line) == ["reply"] and states(stage) == ["delivered"]
    ((token, (picture,)),) = line.arrived
    assert token == "r1" and picture["type"] == "image"
    labels = [item["action"]["data"] for item in picture["quickReply"]["items"]]
    assert [label.partition("&")[0] for label in labels] == [
        "do=again", "do=variation", "do=larger", "do=style", "do=stop",
    ]  # fmt: skip


@pytest.mark.parametrize(("age", "way"), [(29.0, "reply"), (30.0, "push"), (500.0, "push")])
def test_the_age_of_the_event_decides_between_reply_and_push(stage, line, age, way):
    ask(stage, age=age)
    stage.work()
    assert sends(line) == [way] and states(stage) == ["delivered"]


def test_an_event_that_line_dates_in_the_future_is_no_fresher_than_now(stage, line):
    ask(stage, age=-1e6)
    stage.clock.now += 31
    stage.work()
    assert sends(line) == ["push"]


def test_a_token_that_is_refused_the_first_time_leads_to_a_push(stage, line):
    line.spent.add("r1")
    ask(stage)
    stage.work()
    assert sends(line) == ["reply", "push"] and len(line.arrived) == 1
    assert states(stage) == ["delivered"]


def test_a_reply_whose_answer_got_lost_is_not_sent_a_second_time(stage, line):
    line.faults.append("lost")
    ask(stage)
    stage.work()
    assert states(stage) == ["drawn"]
    stage.pass_time(20)
    assert sends(line) == ["reply", "reply"] and len(line.arrived) == 1
    assert states(stage) == ["delivered"]


def test_a_push_whose_answer_got_lost_is_repeated_with_its_key_until_line_knows_it(stage, line):
    line.faults.extend(["lost", 500, 429, 503])
    ask(stage, age=100)
    stage.work()
    stage.pass_time(300)
    assert len(sends(line)) == 5 and len(line.arrived) == 1 and states(stage) == ["delivered"]
    (key,) = keys(line)
    assert str(uuid.UUID(key)) == key == stage.jobs()[0]["retry_key"]


def test_while_line_is_down_for_hours_calls_grow_rare_and_the_picture_arrives_in_the_end(
    stage, line
):
    line.faults.extend([503] * 20)
    ask(stage, age=100)
    stage.work()
    stage.pass_time(HOUR, step=5)
    during = len(sends(line))
    assert 6 <= during <= 14 and not line.arrived and states(stage) == ["drawn"]
    stage.pass_time(4 * HOUR, step=60)
    assert len(line.arrived) == 1 and states(stage) == ["delivered"] and len(keys(line)) == 1


def test_pauses_are_spread_so_that_bots_do_not_call_in_step(stage, line):
    line.faults.extend([503] * 4)
    for name in "1234":
        ask(stage, name, age=100)
    stage.work()
    times = [row["next_try"] for row in stage.bot.base.rows("SELECT next_try FROM outbox")]
    assert len(set(times)) == 4 and all(1.0 <= t - stage.clock() <= 2.0 for t in times)


def test_line_that_cannot_be_reached_counts_as_not_reached(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        stage = Stage(tmp_path, f"http://127.0.0.1:{closed.getsockname()[1]}")
        ask(stage)
        stage.work()
        (row,) = stage.bot.base.rows("SELECT * FROM outbox")
        assert row["state"] == "waiting" and row["reply_tried"] is None and row["reply_token"]
        assert row["reason"] == "LINE cannot be reached"
        stage.close()


def test_what_line_refuses_fails_with_its_reason_and_can_be_retried(stage, line):
    line.faults.append(403)
    ask(stage, age=100)
    stage.work()
    (job,) = stage.jobs()
    assert job["state"] == "failed" and job["reason"] == "LINE answered 403: as told"
    assert stage.bot.queue.retry(job["name"])
    stage.work()
    assert states(stage) == ["delivered"] and len(line.arrived) == 1


def test_a_delivery_is_given_up_before_line_forgets_its_retry_key(stage, line):
    line.faults.extend([503] * 10_000)
    ask(stage, age=100)
    stage.work()
    stage.pass_time(24 * HOUR, step=120)
    (job,) = stage.jobs()
    assert job["state"] == "failed" and "23 hours" in job["reason"]


def test_when_the_quota_has_ended_nothing_is_pushed_and_the_operator_is_told(stage, line):
    line.quota = line.used = 200
    ask(stage, age=100)
    stage.work()
    assert sends(line) == [] and states(stage) == ["drawn"]
    (row,) = stage.bot.base.rows("SELECT * FROM warnings")
    assert row["kind"] == "quota" and "used up" in row["text"]
    line.quota = 400
    stage.pass_time(2 * HOUR, step=60)
    assert sends(line) == ["push"] and states(stage) == ["delivered"]
    assert not stage.bot.base.rows("SELECT * FROM warnings")


def test_a_reply_needs_no_quota(stage, line):
    line.quota = line.used = 200
    ask(stage)
    stage.work()
    assert states(stage) == ["delivered"]
    assert not [path for path, _, _ in line.calls if "quota" in path]


def test_a_store_that_fails_delays_the_delivery_and_loses_nothing(stage, line, monkeypatch):
    store, put = stage.bot.gallery.store, stage.bot.gallery.store.put
    monkeypatch.setattr(store, "put", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    ask(stage)
    stage.work()
    assert states(stage) == ["drawn"] and sends(line) == []
    monkeypatch.setattr(store, "put", put)
    stage.pass_time(5, step=1)
    assert states(stage) == ["delivered"]


def test_a_delivery_that_is_repeated_carries_the_same_addresses(stage, line):
    line.faults.extend([500, 500])
    ask(stage, age=100)
    stage.work()
    stage.pass_time(60)
    bodies = [body["messages"] for path, body, _ in line.calls if path.endswith("/push")]
    assert len(bodies) == 3 and bodies[0] == bodies[1] == bodies[2]


@pytest.mark.parametrize(
    ("user", "words"),
    [("Uja", "2 枚のうち 1 枚は"), ("Uzh", "2 張中有 1 張"), ("Uen", "blacked out 1 of 2")],
)
def test_a_picture_that_was_blacked_out_comes_with_a_sentence_before_the_buttons(
    tmp_path, line, user, words
):
    def checked(job, folder, check):
        draw(job, folder, check)
        (folder / "1.flagged").touch()

    stage = Stage(tmp_path, line.url, checked)
    line.languages |= {"Uja": "ja", "Uzh": "zh-Hant", "Uen": "en"}
    stage.hear(message("1", "cat, 2 pictures", user, sent=stage.clock()))
    stage.work()
    ((_, (said, _, last)),) = line.arrived
    assert words in said["text"] and "quickReply" in last and last["type"] == "image"
    stage.close()


@pytest.mark.parametrize(
    ("user", "words"),
    [("Uja", "知らないことば: castle, Monet"), ("Uen", "does not know: castle, Monet")],
)
def test_words_that_mean_nothing_to_the_model_are_named_in_the_users_language(
    tmp_path, line, user, words
):
    def vague(job, folder, check):
        draw(job, folder, check)
        for index in (0, 2):
            (folder / f"{index}.flagged").touch()
        (folder / "unknown_words.txt").write_text("castle\nMonet", encoding="utf-8")

    stage = Stage(tmp_path, line.url, vague)
    line.languages |= {"Uja": "ja", "Uen": "en"}
    stage.hear(message("1", "cat, 4 pictures", user, sent=stage.clock()))
    stage.work()
    ((_, sent),) = line.arrived
    assert len(sent) <= 5, "the most that LINE takes at once"
    assert sent[0]["type"] == "text" and sent[0]["text"].endswith(words)
    assert "quickReply" in sent[-1]
    stage.close()


def test_http_addresses_are_never_sent():
    from apps.line_bot.messages import pictures

    with pytest.raises(ValueError, match="https"):
        pictures([("https://a/b", "http://a/c")], "0" * 32, "en")


def test_no_log_or_warning_or_row_holds_a_secret(stage, line, caplog, tmp_path):
    from bot_parts import ADMIN
    from fake_line import SECRET, TOKEN

    caplog.set_level("DEBUG")
    line.faults.extend([500, 401, 429, 400])
    for name in "1234":
        ask(stage, name, age=100 * (name > "2"))
    stage.work()
    stage.pass_time(600)
    said = caplog.text + repr(stage.secrets) + repr(stage.bot) + str(vars(stage.webhook))
    files = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    for secret in (SECRET, TOKEN, ADMIN):
        assert secret not in said and secret.encode() not in files

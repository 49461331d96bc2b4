"""LINE down, tokens expired, quota ended, disk full, database locked: nothing lost or doubled."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from bot_parts import Clock, Stage, draw
from fake_line import SECRET, TOKEN

from apps.line_bot import database
from apps.line_bot.line_api import Outcome
from apps.line_bot.simulate import StandIn
from ldm.errors import UserError

HOUR = 3600.0


@pytest.fixture
def line():
    clock = Clock()
    with StandIn(secret=SECRET, access_token=TOKEN, clock=clock) as line:
        yield line


@pytest.fixture
def stage(tmp_path, line, monkeypatch):
    monkeypatch.setattr(database, "PAUSE", 0.02)
    made = Stage(tmp_path, line.address)
    made.clock.now = line.clock.now
    made.line, made.bot.delivery.clock = line, made.clock
    line.clock.now, clock = made.clock.now, made.clock
    line.clock = line.ledger.clock = clock
    made.bot.base.rows("PRAGMA busy_timeout=20")
    yield made
    made.close()


def ask(stage, text: str = "a cat", who: int = 2) -> None:
    assert stage.hear(stage.line.text_event(stage.line.users[who], text)) == 200


def got(stage, who: int = 2) -> list[tuple[str, str]]:
    found = stage.line.messages_of(stage.line.users[who])
    return [(each.content["type"], each.way) for each in found]


def calls(stage, what: str) -> list[int]:
    return [each.status for each in stage.line.calls if each.path.endswith(what)]


def warnings(stage) -> list[str]:
    return [row["text"] for row in stage.bot.base.rows("SELECT text FROM warnings")]


def states(stage) -> list[str]:
    return [row["state"] for row in stage.jobs()]


def test_line_that_is_down_for_an_hour_is_asked_seldom_and_gets_each_picture_once(stage):
    users = range(3)
    for who in users:
        ask(stage, who=who)
    stage.line.switches.set(down_until=stage.clock() + HOUR)
    stage.work()
    stage.pass_time(90, step=1)
    first = len(stage.line.calls)
    stage.pass_time(HOUR - 91, step=5)
    # Often while the token may be good, then ever more seldom, up to a quarter of an hour.
    assert 3 * 10 <= first <= 3 * 28 and 3 * 3 <= len(stage.line.calls) - first <= 3 * 9
    assert not any(got(stage, who) for who in users)
    stage.pass_time(HOUR / 2, step=5)
    assert [got(stage, who) for who in users] == [[("image", "push")]] * 3
    assert states(stage) == ["delivered"] * 3
    before = len(stage.line.calls)
    stage.pass_time(HOUR, step=60)
    assert len(stage.line.calls) == before


def test_a_token_that_has_expired_at_line_leads_to_one_push(stage):
    stage.line.switches.set(token_lifetime=5.0)
    ask(stage)
    stage.clock.now += 10
    stage.work()
    assert got(stage) == [("image", "push")] and calls(stage, "/reply") == [400]


@pytest.mark.parametrize(("age", "ways"), [(50, ["reply"]), (70, ["reply", "push"])])
def test_a_reply_of_unknown_end_is_taken_for_done_within_lines_minute_alone(stage, age, ways):
    stage.line.switches.set(lost_answers=1)
    ask(stage)
    stage.work()  # it arrives; the answer does not
    sent = stage.clock() - 1
    stage.line.switches.set(down_until=sent + age)
    stage.pass_time(20 * 60, step=1)
    # Later nobody can tell a token that was used from one that is too old: rather twice than never.
    assert [way for _, way in got(stage)] == ways
    assert states(stage) == ["delivered"]


def test_a_push_of_unknown_end_comes_once(stage):
    ask(stage)
    stage.clock.now += 40
    stage.line.switches.set(lost_answers=1, errors_left=0)
    stage.work()
    stage.pass_time(60, step=1)
    assert got(stage) == [("image", "push")] and calls(stage, "/push") == [500, 409]


def test_a_quota_that_has_ended_keeps_the_picture_for_the_next_month(stage):
    stage.line.switches.set(quota=0)
    ask(stage)
    stage.clock.now += 40
    stage.work()
    stage.pass_time(5 * HOUR, step=600)
    assert got(stage) == [] and calls(stage, "/push") == [] and states(stage) == ["drawn"]
    assert len(warnings(stage)) == 1 and "used up" in warnings(stage)[0]
    stage.line.switches.set(quota=10)
    stage.pass_time(HOUR + 60, step=60)
    assert got(stage) == [("image", "push")] and not warnings(stage)


def test_a_quota_that_ends_between_question_and_push_is_noticed(stage, monkeypatch):
    monkeypatch.setattr(stage.bot.line, "pushes_left", lambda: Outcome("ok", value=3))
    stage.line.switches.set(quota=0)
    ask(stage)
    stage.clock.now += 40
    stage.work()
    assert calls(stage, "/push") == [429] and got(stage) == [] and states(stage) == ["drawn"]
    assert "used up" in warnings(stage)[0]


def locked(stage, seconds: float):
    """Let another program hold the database for so long."""
    other = sqlite3.connect(
        stage.bot.base.folder / "bot.db", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(seconds, lambda: (other.execute("ROLLBACK"), other.close()))
    timer.start()
    return timer


def test_a_database_that_is_locked_after_a_reply_makes_no_second_one(stage, monkeypatch):
    reply = stage.bot.line.reply

    def then_locked(*given):
        outcome = reply(*given)
        locked(stage, 0.3)
        return outcome

    monkeypatch.setattr(stage.bot.line, "reply", then_locked)
    ask(stage)
    stage.work()
    assert calls(stage, "/reply") == [200] and got(stage) == [("image", "reply")]
    assert states(stage) == ["delivered"]


@pytest.mark.parametrize("error", [None, UserError("the size is wrong")])
def test_a_database_that_is_locked_when_a_drawing_ends_costs_nothing_but_time(stage, error):
    drawings = []

    def drawer(*given):
        drawings.append(1)
        draw(*given)
        locked(stage, 0.3)
        if error:
            raise error

    stage.worker.draw = drawer
    ask(stage)
    stage.work()
    assert len(drawings) == 1 and len(got(stage)) == 1
    assert states(stage) == (["failed"] if error else ["delivered"])


def test_a_database_that_is_locked_when_a_message_comes_is_written_later(stage):
    event = stage.line.text_event(stage.line.users[2], "a cat")
    timer = locked(stage, 0.2)
    assert stage.hear(event) == 503
    timer.join()
    assert stage.hear(event) == stage.hear(event) == 200  # LINE sends it again
    stage.work()
    assert got(stage) == [("image", "reply")]


class Full(OSError):
    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_while_a_picture_is_written_leaves_nothing_half(stage):
    def half(job, folder: Path, check):
        (folder / "0.png").write_bytes(b"\x89PNG")
        raise Full

    stage.worker.draw, drawn = half, stage.bot.base.folder / "drawn"
    stage.worker._stop.wait = lambda _: None
    ask(stage)
    stage.work()
    assert states(stage) == ["queued"] and not list(drawn.iterdir()) and got(stage) == []
    assert len(warnings(stage)) == 1 and "a job waits: " in warnings(stage)[0]
    assert "No space left on device" in warnings(stage)[0] and "\n" not in warnings(stage)[0]
    stage.worker.draw = draw
    stage.work()
    assert [kind for kind, _ in got(stage)] == ["image"] and stage.jobs()[0]["attempts"] == 1


def test_a_picture_that_finds_no_room_waits_as_well_though_its_error_is_the_users(
    stage, monkeypatch
):
    def no_room(path, data):
        raise Full

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", no_room)
        stage.worker._stop.wait = lambda _: None
        ask(stage)
        stage.work()
    assert states(stage) == ["queued"] and "No space left" in warnings(stage)[0]
    stage.work()
    assert got(stage) == [("image", "reply")]


def test_a_disk_that_is_full_for_the_served_copy_delays_it_and_leaves_nothing_half(
    stage, monkeypatch
):
    write = Path.write_bytes

    def half(path, data):
        write(path, data[: len(data) // 2])
        raise Full

    ask(stage)
    stage.work(send=False)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        stage.work()
    pictures = stage.bot.gallery.store.folder
    assert states(stage) == ["drawn"] and got(stage) == [] and not list(pictures.iterdir())
    assert warnings(stage) == ["pictures cannot be stored (Full)"]
    stage.pass_time(10, step=1)
    assert got(stage) == [("image", "reply")] and len(list(pictures.iterdir())) == 2


def test_a_database_without_room_keeps_the_event_and_makes_no_half_of_a_job(stage):
    base = stage.bot.base
    ask(stage, "help")  # so that the user is known
    stage.work()
    big = stage.line.text_event(stage.line.users[2], "🐈" * 1000)
    event = stage.webhook
    assert event.take(*signed_for(big)).status_code == 200
    base.rows(f"PRAGMA max_page_count={base.row('PRAGMA page_count')[0]}")
    for _ in range(3):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            while stage.bot.intake.step():
                pass
    new = base.rows("SELECT * FROM events WHERE state='new'")
    assert not stage.jobs() and len(new) == 1 and not stage.bot.people.had("")
    base.rows("PRAGMA max_page_count=1000000")
    stage.work()
    while stage.bot.intake.step():
        pass
    stage.work()
    assert states(stage) == ["delivered"]


def signed_for(*events):
    from fake_line import signed

    return signed(list(events))


def test_threads_outlive_a_lock_that_another_program_holds(stage):
    """The whole bot, with its threads: a backup locks the file for a second."""
    bot, user = stage.bot, stage.line.users[2]
    bot.start([lambda: draw])
    try:
        assert stage.webhook.take(*signed_for(stage.line.text_event(user, "a cat")))
        locked(stage, 1.0)
        stage.line.wait_for_messages(user, 1, timeout=15)
        time.sleep(0.2)
        assert bot.alive()["ok"] and [kind for kind, _ in got(stage)] == ["image"]
    finally:
        bot.end()

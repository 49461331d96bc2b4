"""The queue is fair, keeps each job in one state, and brings back what was interrupted."""

from __future__ import annotations

import threading
import time

import pytest
from bot_parts import Clock, draw

from apps.line_bot.database import Database
from apps.line_bot.jobs import MOST_ATTEMPTS, Origin, Queue, Task
from apps.line_bot.outbox import Outbox
from apps.line_bot.people import People, Warnings
from apps.line_bot.worker import BadPhoto, NotNow, Unwanted, Worker
from ldm.errors import UserError


@pytest.fixture
def queue(tmp_path):
    base = Database(tmp_path)
    yield Queue(base, Clock())
    base.close()


def add(queue, user: str, sent: float = 0.0, prompt: str = "cat", **more):
    add.number += 1
    origin = Origin(f"E{add.number}", user, user, sent, message_id=f"m{add.number}")
    return queue.add(origin, "en", Task(prompt, **more))


add.number = 0


def worker_of(queue, drawer) -> Worker:
    base = queue.base
    made = Worker(queue, Outbox(base), People(base), Warnings(base), drawer)
    made._stop.wait = lambda _: None
    return made


def test_who_sends_fifty_messages_does_not_hold_up_the_others(queue):
    for number in range(50):
        add(queue, "greedy", number)
    for user in ("a", "b", "c"):
        for number in range(3):
            add(queue, user, 100 + number)
    order = [queue.claim().user for _ in range(12)]
    assert sorted(order[:4]) == ["a", "b", "c", "greedy"]
    assert all(order.count(user) == 3 for user in ("a", "b", "c", "greedy"))


def test_who_comes_anew_is_next_and_has_no_more_than_a_turn(queue):
    for number in range(5):
        add(queue, "old", number)
    assert [queue.claim().user for _ in range(2)] == ["old", "old"]
    add(queue, "new", 50), add(queue, "new", 51)
    assert [queue.claim().user for _ in range(4)] == ["new", "old", "new", "old"]


def test_one_users_jobs_are_drawn_in_the_order_of_sending_not_of_arrival(queue):
    for sent in (30, 10, 20):
        add(queue, "a", sent, str(sent))
    assert [queue.claim().task.prompt for _ in range(3)] == ["10", "20", "30"]
    assert queue.claim() is None


def test_two_workers_never_get_the_same_job(queue):
    for number in range(40):
        add(queue, f"u{number % 3}", number)
    got: list[int] = []

    def take():
        while job := queue.claim():
            got.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    [each.start() for each in threads], [each.join() for each in threads]
    assert sorted(got) == list(range(1, 41))


def test_what_was_being_drawn_is_queued_again_unless_its_pictures_are_whole(queue):
    whole, half = add(queue, "a"), add(queue, "b")
    for _ in range(2):
        queue.claim()
    queue.folder(whole).mkdir(parents=True)
    (queue.folder(whole).parent / f".{half.name}.part").mkdir()
    queue.recover()
    assert queue.state(whole) == "drawn" and queue.state(half) == "queued"
    assert [row["job"] for row in queue.base.rows("SELECT job FROM outbox")] == [whole.id]
    queue.recover()
    assert len(queue.base.rows("SELECT * FROM outbox")) == 1


def test_a_job_that_ends_the_process_each_time_fails_in_the_end(queue):
    job = add(queue, "a")
    for _ in range(MOST_ATTEMPTS):
        assert queue.state(job) == "queued"
        queue.claim()
        queue.recover()
    assert queue.state(job) == "failed" and "8 times" in queue.named(job.name).reason


def test_an_event_makes_one_job_at_most(queue):
    origin = Origin("E", "a", "a", 0.0)
    queue.add(origin, "en", Task("cat"))
    with pytest.raises(Exception, match="UNIQUE"):
        queue.add(origin, "en", Task("cat"))


def test_cancelling_takes_what_was_sent_before_even_if_it_comes_later(queue):
    early, late = add(queue, "a", 10), add(queue, "a", 30)
    other = add(queue, "b", 10)
    assert [job.id for job in queue.cancel("a", 20)] == [early.id]
    assert [queue.state(job) for job in (early, late, other)] == ["cancelled", "queued", "queued"]
    assert add(queue, "a", 15).state == "cancelled" and add(queue, "a", 21).state == "queued"


def test_taking_a_message_back_cancels_its_job_alone(queue):
    first, second = add(queue, "a", 10), add(queue, "a", 11)
    message_id = queue.base.row("SELECT message_id FROM jobs WHERE id=?", second.id)[0]
    assert [job.id for job in queue.cancel("a", 20, message_id)] == [second.id]
    assert queue.state(first) == "queued" and add(queue, "a", 12).state == "queued"


def test_a_job_that_is_cancelled_while_it_is_drawn_brings_nothing(queue):
    def cancelled_meanwhile(job, folder, check):
        draw(job, folder, lambda: None)
        queue.cancel(job.user, 100)
        check()

    job = add(queue, "a", 10)
    assert worker_of(queue, cancelled_meanwhile).step()
    assert queue.state(job) == "cancelled" and not queue.folder(job).exists()
    assert not queue.base.rows("SELECT * FROM outbox")


@pytest.mark.parametrize("trouble", [OSError(28, "No space left"), NotNow("LINE is down")])
def test_a_full_disk_delays_jobs_and_is_no_attempt_of_theirs(queue, trouble):
    def full(*_):
        raise trouble

    job = add(queue, "a")
    worker = worker_of(queue, full)
    for _ in range(20):
        assert not worker.step()
    found = queue.named(job.name)
    assert found.state == "queued" and found.attempts == 0
    (row,) = queue.base.rows("SELECT * FROM warnings")
    assert row["times"] == 20
    worker.draw = draw
    assert worker.step() and queue.state(job) == "drawn"


@pytest.mark.parametrize(
    ("error", "runs", "said"),
    [
        (UserError("a wrong size"), 1, "could not be drawn"),
        (BadPhoto("no photo"), 1, "could not be opened"),
        (ZeroDivisionError("x"), 3, "could not be drawn"),
    ],
)
def test_a_job_that_cannot_be_drawn_fails_is_told_and_given_back(queue, error, runs, said):
    calls = []

    def broken(*_):
        calls.append(1)
        raise error

    job = add(queue, "a", count=3)
    People(queue.base).charge("a", 3)
    worker = worker_of(queue, broken)
    while worker.step():
        pass
    assert queue.state(job) == "failed" and len(calls) == runs
    (row,) = queue.base.rows("SELECT body FROM outbox")
    assert said in row["body"] and People(queue.base).had("a") == 0


def test_a_failed_job_is_drawn_anew_on_request(queue):
    job = add(queue, "a")
    worker = worker_of(queue, lambda *_: (_ for _ in ()).throw(UserError("x")))
    worker.step()
    assert queue.retry(job.name) and queue.state(job) == "queued"
    assert not queue.retry(job.name) and not queue.retry("0" * 32)
    worker.draw = draw
    assert worker.step() and queue.state(job) == "drawn"


def test_the_bots_end_interrupts_a_drawing_which_is_queued_again(queue):
    job = add(queue, "a")
    worker = worker_of(queue, lambda *given: (worker._stop.set(), given[2]()))
    worker.step()
    found = queue.named(job.name)
    assert found.state == "queued" and found.attempts == 0
    with pytest.raises(Unwanted):
        worker._check(job)


def test_a_folder_is_one_bots_alone(tmp_path, queue):
    with pytest.raises(UserError, match=r"another bot works in .*; end it, or give another"):
        Database(tmp_path)
    queue.base.close()
    Database(tmp_path).close()


def test_a_transaction_happens_as_a_whole_or_not_at_all(queue):
    base = queue.base
    with pytest.raises(RuntimeError), base.transaction() as tell:
        tell("INSERT INTO users (user) VALUES ('x')")
        with base.transaction() as inner:
            inner("INSERT INTO users (user) VALUES ('y')")
        raise RuntimeError
    assert not base.rows("SELECT * FROM users")
    for pragma, value in (("journal_mode", "wal"), ("synchronous", 2)):
        assert base.row(f"PRAGMA {pragma}")[0] == value


def test_a_day_ends_at_midnight_of_the_machines_clock(queue, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        clock = Clock(86_400 * 100 + 15 * 3600 - 1)  # a second before midnight in Tokyo
        people = People(queue.base, clock)
        people.charge("a", 3)
        clock.now += 0.5
        assert people.had("a") == 3 and people.had("") == 3
        clock.now += 1
        assert people.had("a") == 0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_job_cancelled_from_its_birth_has_ended_and_is_cleaned_like_the_others(queue):
    queue.cancel("a", 50)
    job = add(queue, "a", 10)
    assert job.state == "cancelled"
    (row,) = queue.base.rows("SELECT ended FROM jobs")
    assert row["ended"] == queue.clock()


def test_how_long_drawing_takes_does_not_count_the_wait_for_delivery(queue):
    job = add(queue, "a")
    worker = worker_of(
        queue, lambda *args: (setattr(queue.clock, "now", queue.clock.now + 5), draw(*args))
    )
    worker.step()
    queue.clock.now += 9000
    letter = Outbox(queue.base, queue.clock).due()
    Outbox(queue.base, queue.clock).sent(letter)
    assert queue.state(job) == "delivered" and queue.seconds_each() == 5


def test_leaving_a_chat_cancels_what_all_in_it_asked_for_there_and_nothing_else(queue):
    def ask(name, user, chat):
        return queue.add(Origin(name, user, chat, 1.0), "en", Task("cat"))

    inside = [ask("1", "Ua", "Cg"), ask("2", "Ub", "Cg")]
    elsewhere = ask("3", "Ua", "Ua")
    assert [job.id for job in queue.cancel("Cg", 5.0, of="chat")] == [job.id for job in inside]
    assert queue.state(elsewhere) == "queued"
    assert ask("4", "Ub", "Cg").state == "cancelled"  # LINE told of it late


def test_a_drawing_that_fails_again_gives_back_no_more_than_was_counted(queue):
    people = People(queue.base)
    people.charge("a", 3)
    job = add(queue, "a", count=2)
    people.charge("a", 2)
    worker = worker_of(queue, lambda *_: (_ for _ in ()).throw(UserError("x")))
    for _ in range(3):
        worker.step()
        assert queue.state(job) == "failed" and people.had("a") == 3
        people.charge("a", queue.given_back(job.name))
        queue.retry(job.name)
        assert people.had("a") == 5

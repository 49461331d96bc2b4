"""Workers of this machine: nothing is lost and nothing doubled, whoever dies."""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import closing
from types import SimpleNamespace

import pytest
from batch_runs import pictures_in, plan_of, records_in, write_jsonl
from batch_workers import DyingWorker, PaintingWorker, RefusingWorker, TalkingWorker

from ldm.errors import UserError
from ldm.jobs.base import StoreError
from ldm.jobs.engines import local
from ldm.jobs.manifest import ManifestWriter
from ldm.jobs.records import Record, picture_name
from ldm.jobs.run import remaining

PROMPTS = ["p0", "p1", "p2", "p3"]  # two for each of two workers, which is one ahead


@pytest.fixture
def plan(tiny_ckpt, tmp_path):
    """Return the plan that draws prompts into a folder."""

    def plan(prompts, out="out", **given):
        rows = [{"prompt": prompt, "seed": seed} for seed, prompt in enumerate(prompts)]
        jobs = write_jsonl(tmp_path / "jobs.jsonl", rows)
        return plan_of(jobs, tmp_path / out, tiny_ckpt, **{"batch_size": 2, **given})

    return plan


def paint(plan, worker=PaintingWorker):
    told = []
    found = list(local.run(plan, lambda event: told.append(event.text), worker))
    return found, told


@pytest.mark.parametrize("workers", [1, 2])
def test_every_picture_is_drawn_once_by_any_number_of_workers(plan, tmp_path, workers):
    found, told = paint(plan([f"p{n}" for n in range(11)], workers=workers))
    assert sorted(record.number for record in found) == list(range(11)) and told == []
    assert len(pictures_in(tmp_path / "out")) == 11
    assert len(records_in(tmp_path / "out")) == 11
    assert multiprocessing.active_children() == []


@pytest.fixture
def within_a_minute():
    """Raise where the test hangs."""

    def end(*_):
        pytest.fail("the driver and its workers wait for each other")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("within_a_minute")
def test_driver_and_worker_may_send_more_at_once_than_a_pipe_holds(plan):
    prompts = [f"{n} {'x' * 300_000}" for n in range(8)]
    found, _ = paint(plan(prompts, workers=2), TalkingWorker)
    assert sorted(record.number for record in found) == list(range(8))


def test_a_killed_worker_costs_nothing(plan, tmp_path):
    paint(plan([f"p{n}" for n in range(9)], "whole", workers=1))
    prompts = [f"p{n}" for n in range(9)]
    prompts[4] = f"die once {tmp_path / 'died'}"
    found, told = paint(plan(prompts, workers=2))
    assert sorted(record.number for record in found) == list(range(9))
    assert not any(record.error for record in found)
    # A file that it was writing may be cleared up, which is told too.
    assert sum("died (killed by SIGKILL)" in text for text in told) == 1
    assert pictures_in(tmp_path / "out") == pictures_in(tmp_path / "whole")


def test_a_job_that_kills_its_workers_is_given_up_alone(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "MOST_DEATHS", 1)
    prompts = ["p0", "p1", "die", "p3", "p4", "p5"]
    found, _ = paint(plan(prompts, workers=2))
    errors = {record.number: record.error for record in found if record.error}
    assert list(errors) == [2] and "workers died" in errors[2]
    assert sorted(record.number for record in found) == list(range(6))
    assert records_in(tmp_path / "out").failed() == [2]


def test_what_a_dead_worker_has_recorded_without_saying_so_is_not_drawn_again(plan):
    plan = plan(["p0", "p1", "p2"])
    jobs = {job.number: job for job in remaining(plan)}
    with ManifestWriter(plan.store, "dead") as writer:
        writer.append(Record(0, jobs[0].digest, picture_name(0), "ab" * 32, 3))
        writer.append(Record(1, jobs[1].digest, error="it failed in an earlier run"))
    pool = local._Pool(plan, iter(()), print, PaintingWorker)
    pool._inherit(local._Hand(None, None, unrecorded=jobs, ready=True))
    assert [record.number for record in pool.found] == [0]
    assert [job.number for bucket in pool.again for job in bucket] == [1, 2]


def test_records_that_died_with_their_worker_on_the_way_to_a_store_are_made_again(plan):
    plan = plan(["p0", "p1", "p2"])
    jobs = list(remaining(plan))
    pool = local._Pool(plan, iter(()), print, PaintingWorker)
    process = SimpleNamespace(name="w", exitcode=-9, join=lambda *_: None, kill=lambda: None)
    pipe = SimpleNamespace(close=lambda: None)
    hand = local._Hand(process, pipe, ready=True, ended=True)
    hand.unrecorded = {job.number: job for job in jobs}
    pool.hands[0], pool.observer = hand, lambda _: None
    records = [Record(n, jobs[n].digest, picture_name(n), "ab" * 32, 3) for n in range(3)]
    for record in records:
        pool._note(hand, record)
    with ManifestWriter(plan.store, "dead") as writer:
        writer.append(records[1])
    pool._bury(hand)
    again = [job for bucket in pool.again for job in bucket]
    assert [job.number for job in again] == [0, 2]
    heir = local._Hand(process, pipe, unrecorded={job.number: job for job in again})
    pool._note(heir, records[0])
    assert [record.number for record in pool.found] == [0, 1, 2], "each is told once"


def test_a_redraw_that_is_killed_leaves_no_record_of_the_picture_before(
    plan, tmp_path, monkeypatch
):
    paint(plan(["p0", "p1"], workers=1))
    append = ManifestWriter.append

    def killed(self, *records):
        if records[0].name:  # its file is there by now
            raise StoreError("killed")
        append(self, *records)

    with monkeypatch.context() as patched:
        patched.setattr(ManifestWriter, "append", killed)
        with pytest.raises(StoreError):
            paint(plan(["another", "p1"], workers=1, redraw=True))
    assert records_in(tmp_path / "out").failed() == [0]
    found, _ = paint(plan(["p0", "p1"], workers=1))
    assert [record.number for record in found] == [0]
    assert records_in(tmp_path / "out").failed() == []


def test_workers_that_die_before_they_are_ready_end_the_run(plan, monkeypatch):
    monkeypatch.setattr(local, "MOST_STARTS", 2)
    with pytest.raises(UserError, match="died before their model was loaded"):
        paint(plan(["p0"], workers=2), DyingWorker)


def test_what_a_worker_refuses_ends_the_run_in_its_words(plan):
    with pytest.raises(UserError, match="^the checkpoint lacks weights"):
        paint(plan(["p0"], workers=2), RefusingWorker)
    assert multiprocessing.active_children() == []


def test_one_poisoned_picture_costs_itself_alone(plan, tmp_path):
    found, _ = paint(plan(["p0", "fail", "p2", "p3"]))
    assert [record.number for record in found if record.error] == [1]
    assert len(pictures_in(tmp_path / "out")) == 3


def test_who_stops_listening_leaves_no_process_behind_and_can_go_on(plan, tmp_path):
    prompts = [*PROMPTS, *(f"wait {tmp_path / 'go'}" for _ in range(4))]
    with closing(
        local.run(plan(prompts, workers=2, batch_size=1), lambda _: None, PaintingWorker)
    ) as records:
        next(records)
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []
    (tmp_path / "go").touch()
    again, _ = paint(plan(prompts))
    assert len(records_in(tmp_path / "out")) == 8 and 0 < len(again) < 8

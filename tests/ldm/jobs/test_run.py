"""What a run is to draw: surveyed, compared with what is done, and refused where it would lose."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from batch_runs import plan_of, write_csv

from ldm.errors import UserError
from ldm.jobs import run as run_module
from ldm.jobs.job import Job
from ldm.jobs.manifest import Manifest, ManifestWriter
from ldm.jobs.records import Record, picture_name
from ldm.jobs.run import check, lost_records, remaining, survey

ROWS = [{"prompt": f"cat {n}", "seed": n} for n in range(6)]


@pytest.fixture
def plan(tiny_ckpt, tmp_path):
    """Return the plan of rows, with settings of the run."""

    def plan(rows=ROWS, **given):
        return plan_of(write_csv(tmp_path / "jobs.csv", rows), tmp_path / "out", tiny_ckpt, **given)

    return plan


def finish(plan, jobs, **changes):
    """Record jobs as done."""
    with ManifestWriter(plan.store, "test") as writer:
        for job in jobs:
            name = picture_name(job.number)
            drawn = Record(job.number, job.digest, name, "ab" * 32, 3)
            writer.append(drawn._replace(**changes))


def surveyed(plan):
    done = Manifest(plan.store).done()
    return survey(plan, done), done


def numbers(jobs):
    return [job.number for job in jobs]


def test_what_is_done_is_not_left(plan):
    jobs = list(remaining(plan()))
    assert numbers(jobs) == list(range(6))
    finish(plan(), [jobs[1], jobs[4]])
    assert numbers(remaining(plan())) == [0, 2, 3, 5]
    found, _ = surveyed(plan())
    assert (found.pictures, found.remaining, found.changed, found.failed) == (6, 4, 0, 0)


def test_what_failed_is_tried_again(plan):
    jobs = list(remaining(plan()))
    finish(plan(), jobs)
    finish(plan(), jobs[2:3], name="", sha256="", size=0, error="broken")
    assert numbers(remaining(plan())) == [2]
    assert surveyed(plan())[0].failed == 1


def test_lines_may_be_added_and_move_nothing(plan):
    finish(plan(), remaining(plan()))
    more = plan([*ROWS, {"prompt": "more", "seed": 1}])
    found, _ = surveyed(more)
    check(more, found)
    assert numbers(remaining(more)) == [6]


def test_finished_pictures_are_replaced_only_where_that_is_asked(plan):
    finish(plan(), remaining(plan()))
    changed = [{**row, "prompt": "a dog"} if row["seed"] == 3 else row for row in ROWS]
    found, _ = surveyed(plan(changed))
    assert (found.changed, found.first_changed) == (1, [3])
    with pytest.raises(UserError, match=r"numbers 3\).*--redraw"):
        check(plan(changed), found)
    check(plan(changed, redraw=True), found)
    assert numbers(remaining(plan(changed, redraw=True))) == [3]


def test_settings_of_the_run_count_as_the_lines_own(plan):
    finish(plan(), remaining(plan()))
    assert surveyed(plan(scale=3.0))[0].changed == 6
    assert surveyed(plan(kernels="auto", workers=3, batch_size=1))[0].remaining == 0


def test_pictures_of_lines_that_are_gone_are_counted(plan):
    finish(plan(), remaining(plan()))
    assert surveyed(plan(ROWS[:2]))[0].beyond == 4


def test_parts_of_a_file_have_the_numbers_and_seeds_of_the_whole(plan):
    rows = [{"prompt": f"cat {n}"} for n in range(5)]
    whole = [(job.number, job.digest) for job in remaining(plan(rows))]
    last = [(job.number, job.digest) for job in remaining(plan(rows[3:], first=3))]
    assert [number for number, _ in last] == [3, 4] and last == whole[3:]


def test_pictures_before_the_first_belong_to_no_line(plan):
    finish(plan(), remaining(plan()))
    found, _ = surveyed(plan(ROWS[2:], first=2))
    assert (found.beyond, found.pictures, found.remaining) == (2, 4, 0)
    assert surveyed(plan(ROWS[2:5], first=2))[0].beyond == 3


def test_bad_lines_are_refused_unless_they_may_be_skipped(plan):
    rows = [*ROWS[:2], {"prompt": "x", "W": 17}, *ROWS[3:]]
    found, done = surveyed(plan(rows))
    assert (found.bad.count, found.pictures, found.remaining) == (1, 6, 5)
    with pytest.raises(UserError, match="first is line 4.*--skip_bad"):
        check(plan(rows), found)
    check(plan(rows, skip_bad=True), found)
    (lost,) = lost_records(found, done, "driver")
    assert lost.number == 2 and lost.error.startswith("line 4: ") and "17" in lost.error


def test_a_bad_line_takes_nothing_from_a_picture_that_is_there(plan):
    finish(plan(), remaining(plan()))
    found, done = surveyed(plan([*ROWS[:2], {"prompt": "x", "W": 17}, *ROWS[3:]]))
    assert list(lost_records(found, done, "driver")) == []


def test_a_reason_is_recorded_once(plan):
    rows = [{"prompt": "x", "W": 17}, *ROWS]
    found, done = surveyed(plan(rows))
    with ManifestWriter(plan(rows).store, "driver") as writer:
        writer.append(*lost_records(found, done, "driver"))
    found, done = surveyed(plan(rows))
    assert list(lost_records(found, done, "driver")) == []


def test_a_file_that_changes_under_way_stops_the_run_at_the_next_look(plan, tmp_path, monkeypatch):
    first = plan()
    first = replace(first, state=surveyed(first)[0].state)
    for every, drawn in ((1, 1), (1000, 7)):  # the last look is at the end
        monkeypatch.setattr(run_module, "_LOOK_EVERY", every)
        write_csv(tmp_path / "jobs.csv", ROWS)
        os.utime(tmp_path / "jobs.csv", ns=(first.state.modified, first.state.modified))
        seen = []
        with pytest.raises(UserError, match="has changed while it was read"):
            for job in remaining(first):
                seen.append(job)
                write_csv(tmp_path / "jobs.csv", [*ROWS, {"prompt": "more"}])
        assert len(seen) == drawn and isinstance(seen[0], Job)


def test_a_file_without_jobs_is_refused(plan):
    with pytest.raises(UserError, match="holds no jobs"):
        surveyed(plan([], prompt="x"))


def test_a_plan_travels_to_other_processes(plan):
    first = plan(scale=3.0)
    jobs = list(remaining(first))  # the model is known by then, which a thread hashes
    second = pickle.loads(pickle.dumps(first))
    assert [job.digest for job in remaining(second)] == [job.digest for job in jobs]


def test_workers_in_other_folders_find_what_flags_name(plan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ink.safetensors", "sun.pt", "net.pth", "a.png", "tiny.pth"):
        (tmp_path / name).write_bytes(b"x")
    settings = plan(
        lora=("ink.safetensors:0.5", "a name"),
        embedding=("sun.pt", "rain"),
        control=("canny=net.pth:a.png:0.5", "hint=net:a.png"),
        decoder="tiny.pth",
    ).settings
    assert settings.lora == (f"{tmp_path}/ink.safetensors:0.5", "a name")
    assert settings.embedding == (f"{tmp_path}/sun.pt", "rain")
    assert settings.control == (
        f"canny={tmp_path}/net.pth:{tmp_path}/a.png:0.5:0:1",
        f"hint=net:{tmp_path}/a.png:1:0:1",
    )
    assert settings.decoder == f"{tmp_path}/tiny.pth"


def test_a_path_that_cannot_be_told_apart_stays_as_it_was_typed(plan, tmp_path, monkeypatch):
    (tmp_path / "a:b").mkdir()
    monkeypatch.chdir(tmp_path / "a:b")
    Path("a.png").write_bytes(b"x")
    assert plan(control=("reference=a.png",)).settings.control == ("reference=a.png",)

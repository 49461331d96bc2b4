"""The benchmark of scale sees what is lost, doubled or different, and kills until all is drawn."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import scale as bench
from benchmarks import scale_runs
from benchmarks.processes import alive, children, descendants, draws, runs, title
from benchmarks.scale_faults import _last_line
from benchmarks.scale_report import report
from benchmarks.scale_runs import Run, Verdict, Way, disturbed, judge, pictures_in, rate, write_jobs

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
# Draws as scripts/batch.py does, as far as files go: numbered, and none that is there already.
DRAWER = """
import pathlib, sys, time
out = pathlib.Path(sys.argv[1]); out.mkdir(exist_ok=True)
for number in range(4):
    path = out / f"{number:08d}.png"
    if not path.exists():
        time.sleep(0.03)
        path.write_bytes(b"%d" % number)
"""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([(0, "a"), (1, "b")], Verdict(0, 0, 0, 0)),
        ([(0, "a")], Verdict(1, 0, 0, 0)),
        ([(0, "a"), (1, "b"), (1, "b"), (1, "b")], Verdict(0, 2, 0, 0)),
        ([(0, "a"), (1, "x")], Verdict(0, 0, 1, 0)),
        ([(0, "a"), (1, "b"), (7, "c")], Verdict(0, 0, 0, 1)),
    ],
)
def test_losses_doubles_other_bytes_and_strangers_are_counted(found, verdict):
    judged = judge(found, {0: "a", 1: "b"})
    assert judged == verdict and judged.good is (verdict == Verdict(0, 0, 0, 0))


def test_pictures_are_found_in_folders_and_in_shards_and_parts_of_files_are_not(tmp_path):
    (tmp_path / "0000").mkdir()
    (tmp_path / "0000" / "00000003.png").write_bytes(b"three")
    (tmp_path / "0000" / ".00000004.png.part").write_bytes(b"half")
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        member = tarfile.TarInfo("00000005.png")
        member.size = 4
        shard.addfile(member, io.BytesIO(b"five"))
    assert dict(pictures_in(tmp_path)) == {3: sha(b"three"), 5: sha(b"five")}


def test_the_rate_is_of_the_time_between_the_first_file_and_the_last(tmp_path):
    assert rate(tmp_path) == 0.0
    for number, moment in enumerate((10.0, 11.0, 14.0)):
        path = tmp_path / f"{number}.png"
        path.touch()
        os.utime(path, (moment, moment))
    assert rate(tmp_path) == pytest.approx(0.5)


def test_the_job_file_has_a_seed_of_its_own_for_every_picture(tmp_path):
    write_jobs(tmp_path / "jobs.csv", 5, steps=8)
    with (tmp_path / "jobs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == list("01234")
    assert rows[0]["prompt"] == "an astronaut on a red background" and rows[0]["ddim_steps"] == "8"


def test_what_is_killed_is_gone_on_with_until_all_is_there(tmp_path, monkeypatch):
    script = tmp_path / "drawer.py"
    script.write_text(DRAWER)
    command = [sys.executable, str(script), str(tmp_path / "out")]
    monkeypatch.setattr(Way, "command", lambda *_: command)
    chaos = disturbed(
        Way(), tmp_path / "jobs", tmp_path / "out", tmp_path / "log",
        whats=("driver",), kills=3, pause=0.05, draw=random.Random(1),
    )  # fmt: skip
    expected = {number: sha(b"%d" % number) for number in range(4)}
    assert judge(pictures_in(tmp_path / "out"), expected).good
    assert chaos.killed["driver"] == chaos.starts - 1 >= 1
    assert (chaos.left, chaos.code) == (0, 0)
    assert json.loads(json.dumps(asdict(chaos)))["killed"] == chaos.killed


def test_a_run_that_ends_by_itself_with_an_error_is_not_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(Way, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(2)"])
    chaos = disturbed(
        Way(), tmp_path, tmp_path, tmp_path / "log",
        whats=("worker",), kills=5, pause=5.0, draw=random.Random(1),
    )  # fmt: skip
    assert (chaos.starts, chaos.code, chaos.kills) == (1, 2, 0)


def test_workers_are_what_draws_below_the_driver_and_actors_are_rays(monkeypatch):
    run = Run.__new__(Run)
    run.process = type("Process", (), {"pid": 1})()
    names = {2: "python worker", 3: "ray::Drawer.draw", 4: "raylet", 5: "ray::IDLE"}
    monkeypatch.setattr(scale_runs, "descendants", lambda _: list(names))
    monkeypatch.setattr(scale_runs, "draws", lambda pid: pid in (2, 3))
    monkeypatch.setattr(scale_runs, "title", names.get)
    assert [run.targets(what) for what in ("worker", "driver", "actor")] == [[2], [1], [3]]


def test_processes_are_seen_until_they_end():
    process = subprocess.Popen(SLEEPER, stdout=subprocess.PIPE, text=True)
    pid = process.pid
    assert process.stdout.readline() == "up\n"
    assert runs(pid) and pid in children(os.getpid()) and pid in descendants(os.getpid())
    assert "sleep(60)" in title(pid) and not draws(pid)
    process.kill()
    assert alive([pid]) == [] and title(pid) == ""  # not waited for: it is there, but as a zombie
    process.communicate()
    assert not runs(pid) and children(pid) == []


ROW = {"wall": 10.0, "drawing": 5.0, "lost": 0, "doubled": 0, "different": 0, "strangers": 0}


@pytest.mark.parametrize(("drawing", "met"), [(9.1, "met"), (8.9, "not met")])
def test_the_report_tells_whether_two_workers_are_fast_enough(drawing, met):
    ways = {"one": [ROW], "two": [{**ROW, "drawing": drawing}]}
    lines, good = report({"speed": ways})
    assert good and lines[-2].endswith(f": {met}.")


@pytest.mark.parametrize(("drawing", "met"), [(4.8, "met"), (4.7, "not met")])
def test_the_report_tells_whether_ray_costs_too_much(drawing, met):
    lines, _ = report({"ray": {"local": [ROW], "ray": [{**ROW, "drawing": drawing}]}})
    assert lines[-2].endswith(f": {met}.")


CHAOS = {**ROW, "killed": {"worker": 5, "driver": 5}, "starts": 6, "left": 0, "undisturbed": 9.0}


@pytest.mark.parametrize("fault", ["lost", "doubled", "different", "strangers"])
def test_one_wrong_picture_fails_the_benchmark(fault):
    assert report({"chaos local": CHAOS})[1]
    assert not report({"chaos local": {**CHAOS, fault: 1}})[1]
    assert not report({"speed": {"one": [ROW, {**ROW, fault: 1}]}})[1]


def test_a_fault_after_which_pictures_are_missing_fails_the_benchmark():
    row = {"fault": "full disk", "code": 2, "message": "no space", "good": True}
    assert report({"faults": [row]})[1] and not report({"faults": [{**row, "good": False}]})[1]
    assert _last_line("drawing: 3\rdrawing: 4\nbatch: error: /x/disk is a|b\n\n", Path("/x")) == (
        "batch: error: disk is a\\|b"
    )


def test_results_of_another_task_are_refused(tmp_path):
    def begin(*flags: str) -> bench.Bench:
        return bench.Bench(bench.parse_args(list(flags)), tmp_path)

    begin("--n", "3").keep("speed", {})
    assert begin("--n", "3").found["speed"] == {}
    with pytest.raises(SystemExit, match="give another"):
        begin("--n", "4")


def test_wrong_numbers_are_refused(capsys):
    with pytest.raises(SystemExit):
        bench.parse_args(["--n", "0"])
    assert "go from 1" in capsys.readouterr().err

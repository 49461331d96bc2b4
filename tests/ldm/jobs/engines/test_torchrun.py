"""Workers that torchrun has started: every picture is drawn by one rank."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from batch_runs import numbers_written, pictures_in, plan_of, records_in, write_jsonl
from batch_workers import PaintingWorker

from ldm.errors import UserError
from ldm.jobs.engines import local, torchrun
from ldm.jobs.engines.torchrun import Seat, seat

TESTS = Path(__file__).resolve().parents[3]
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
FOLLOWER = """
from batch_workers import PaintingWorker
from ldm.jobs.engines import torchrun
with torchrun.company():
    torchrun.follow(print, PaintingWorker)
    torchrun.follow(print, PaintingWorker)  # is told that there is nothing to draw
"""

SHORT_SIGHTED = """
whole = t.remaining
t.remaining = lambda *given: (job for job in whole(*given) if job.number != 1)
"""


@pytest.fixture
def plan(tiny_ckpt, tmp_path):
    """Return the plan that draws prompts into a folder."""

    def plan(prompts, out="out"):
        rows = [{"prompt": prompt, "seed": seed} for seed, prompt in enumerate(prompts)]
        jobs = write_jsonl(tmp_path / "jobs.jsonl", rows)
        return plan_of(jobs, tmp_path / out, tiny_ckpt, batch_size=2)

    return plan


@pytest.fixture
def ranks(monkeypatch):
    """Make this process rank 0 of so many, and start the others, which follow."""
    started = []

    def ranks(world, follower=FOLLOWER):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        paths = os.pathsep.join((str(TESTS.parent), str(TESTS)))
        for rank in range(1, world):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": paths}
            command = [sys.executable, "-c", follower]
            started.append(subprocess.Popen(command, env={**os.environ, **place, **own}))
        for name, value in {**place, "RANK": "0", "LOCAL_RANK": "0"}.items():
            monkeypatch.setenv(name, value)
        return started

    yield ranks
    for process in started:
        process.kill()
        process.wait()


def test_the_ranks_draw_each_picture_once_and_the_first_one_tells_of_all(plan, ranks, tmp_path):
    prompts = [f"p{n}" for n in range(9)]
    prompts[4] = "fail"
    list(local.run(plan(prompts, "local"), lambda _: None, PaintingWorker))
    started = ranks(2)
    with torchrun.company() as mine:
        found = list(torchrun.run(plan(prompts), lambda _: None, PaintingWorker))
        torchrun.dismiss()
    assert mine == Seat(0, 2, 0) and [process.wait(60) for process in started] == [0]
    assert sorted(record.number for record in found) == list(range(9))
    assert [record.number for record in found if record.error] == [4]
    by_worker = {
        name: [r.number for r in found if r.worker == name] for name in ("rank-0", "rank-1")
    }
    assert by_worker == {"rank-0": [0, 1, 4, 5, 8], "rank-1": [2, 3, 6, 7]}
    assert numbers_written(tmp_path / "out") == list(range(9)), "none is drawn twice"
    assert pictures_in(tmp_path / "out") == pictures_in(tmp_path / "local")


def test_a_rank_that_dies_ends_the_others_and_what_is_left_is_drawn_by_the_next_run(
    plan, ranks, tmp_path
):
    run = plan([f"p{n}" for n in range(8)])
    started = ranks(
        2,
        "import os, torch\nfrom ldm.jobs.engines import torchrun\n"
        "with torchrun.company():\n    torchrun._send(None)\n    os._exit(9)\n",
    )
    with pytest.raises(UserError, match="another rank has ended"):
        list(torchrun.run(run, lambda _: None, PaintingWorker))
    assert started[0].wait(60) == 9
    there = len(records_in(tmp_path / "out"))
    ranks(1)
    found = list(torchrun.run(run, lambda _: None, PaintingWorker))
    assert len(found) == 8 - there and len(pictures_in(tmp_path / "out")) == 8


def test_ranks_that_see_other_files_are_told_apart(plan, ranks):
    started = ranks(2, f"from ldm.jobs.engines import torchrun as t\n{SHORT_SIGHTED}{FOLLOWER}")
    with torchrun.company():
        with pytest.raises(UserError, match="rank 1 found other jobs .* same files"):
            list(torchrun.run(plan([f"p{n}" for n in range(8)]), lambda _: None, PaintingWorker))
        torchrun.dismiss()
    assert started[0].wait(60) == 0


def test_a_rank_ends_with_the_torchrun_that_has_started_it():
    child = "import time; from ldm.jobs.engines import torchrun; torchrun.end_with_parent()"
    child = f"{child}; print('up', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-c", parent]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.kill()
    # The child holds the other end of the pipe: it is gone when that has come to its end.
    assert process.communicate(timeout=50)[0] == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "no MASTER_ADDR, MASTER_PORT"),
        (dict(zip(NAMES, ("2", "2", "0", "a", "1"), strict=True)), "RANK=2 WORLD_SIZE=2"),
        (dict(zip(NAMES, ("-1", "2", "0", "a", "1"), strict=True)), "RANK=-1"),
    ],
)
def test_who_is_not_started_by_torchrun_is_told_how(given, said):
    with pytest.raises(UserError, match=f"{said}.*torchrun --nproc_per_node"):
        seat(given)


def test_a_seat_is_what_torchrun_says():
    assert seat(dict(zip(NAMES, ("3", "8", "1", "a", "1"), strict=True))) == Seat(3, 8, 1)


@pytest.mark.parametrize(
    ("device", "gpus", "found"),
    [("auto", 2, "cuda:1"), ("cuda", 4, "cuda:3"), ("auto", 0, "auto"), ("cpu", 8, "cpu"),
     ("cuda:0", 8, "cuda:0")],
)  # fmt: skip
def test_each_rank_has_a_gpu_of_its_own(device, gpus, found, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert torchrun._device(device, Seat(11, 16, 3)) == found


def test_a_plan_can_be_sent(plan):
    run = plan(["p0"])
    assert pickle.loads(pickle.dumps(run)) == run

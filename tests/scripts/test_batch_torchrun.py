"""The program batch under torchrun: the first rank plans and reports, the others follow."""

from __future__ import annotations

import socket
from contextlib import nullcontext

import pytest
from batch_runs import pictures_in, write_jsonl
from running import load_program

from ldm.jobs.engines import torchrun
from ldm.jobs.engines.torchrun import Seat

SCRIPT = "scripts/batch.py"


@pytest.fixture
def batch(tiny_ckpt, tmp_path, monkeypatch, capsys):
    """Run the program on two lines in this process; return exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    jobs = write_jsonl(tmp_path / "jobs.jsonl", [{"prompt": "a cat"}, {"prompt": "a dog"}])
    program = load_program(SCRIPT)
    base = ["--out", "o", "--engine", "torchrun", "--ckpt", str(tiny_ckpt), "--ddim_steps", "2"]

    def run(*arguments):
        code = program.main([str(jobs), *base, "--device", "cpu", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def alone(monkeypatch):
    """Make this process the only rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**place, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)


def test_one_rank_draws_all_and_then_finds_nothing_to_do(batch, alone, tmp_path):
    code, out, err = batch()
    assert code == 0, err
    assert "1 worker(s) by --engine torchrun" in out and "Drawn: 2 of 2" in out
    assert len(pictures_in(tmp_path / "o")) == 2
    code, out, _ = batch("--workers", "1")
    assert code == 0 and "All 2 pictures are there" in out


def test_another_number_of_workers_than_torchrun_has_started_is_refused(batch, alone, tmp_path):
    code, _, err = batch("--workers", "3")
    assert code == 2 and "torchrun has started 1 processes" in err
    assert not (tmp_path / "o").exists()


def test_a_rank_that_follows_says_and_writes_nothing_of_its_own(batch, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(torchrun, "company", lambda: nullcontext(Seat(1, 2, 1)))
    monkeypatch.setattr(torchrun, "follow", called.append)
    assert batch() == (0, "", "") and len(called) == 1
    assert not (tmp_path / "o").exists()


def test_a_run_that_torchrun_has_not_started_is_told_how_in_one_line(batch, tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    code, _, err = batch()
    assert code == 2 and err.startswith("batch: error: --engine torchrun") and err.count("\n") == 1
    assert not (tmp_path / "o").exists()

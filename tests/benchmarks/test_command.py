"""From the command to pictures: which processes are run, and what is counted of them."""

from __future__ import annotations

import pytest

from benchmarks import command
from benchmarks.command import FIRST, KINDS, command_of, measure, parse_args, report, take_turns


def test_a_process_is_measured_whole_by_both_clocks():
    once = measure("help", command.ROOT, "")
    assert 0 < once["cpu"] <= once["wall"] + 0.1


def test_what_fails_is_told(tmp_path):
    with pytest.raises(SystemExit, match="help failed"):
        measure("help", tmp_path, "")


def test_the_kinds_take_turns_and_the_first_turn_does_not_count(monkeypatch):
    seen = []

    def pretend(kind, *_):
        seen.append(kind)
        return {"wall": float(len(seen)), "cpu": 1.0}

    monkeypatch.setattr(command, "measure", pretend)
    args = parse_args(["--kinds", "step", "six", "--repeats", "2"])
    runs = take_turns(args, "")
    assert seen == ["step", "six"] * 3
    assert [run["wall"] for run in runs["step"]] == [3.0, 5.0]
    assert report(args, runs)[-2:] == ["| step | 4.00 | 1.00 |  |", "| six | 5.00 | 1.00 |  |"]
    runs["step"][0]["peak"] = 3 * 2**29
    assert report(args, runs)[-2] == "| step | 4.00 | 1.00 | 1.50 |"


def test_one_step_is_one_picture_and_six_are_the_defaults():
    step, six = (command_of(kind, "out", "") for kind in ("step", "six"))
    assert step[: len(six)] == six and step[len(six) :][-2:] == ["--ddim_steps", "1"]
    assert "--sampler" in six and "--sampler" not in command_of("six-own", "out", "")
    assert all(command_of(kind, "out", "x.ckpt") for kind in (*KINDS, *FIRST))


def test_the_first_step_is_counted_without_the_time_of_a_step(monkeypatch):
    from ldm.pipelines.progress import Progress
    from ldm.programs.drawing import DrawingProgram

    clock = iter([110.0, 113.0])
    monkeypatch.setattr(command.time, "time", lambda: next(clock))
    monkeypatch.setattr(command.time, "process_time", lambda: 5.0)

    def main(program, line):
        assert line[-4:] == ["--kernels", "auto", "--device", "cpu"]
        for done in (0, 1, 2):
            program.console.observe(Progress(done, 2, 0, 1))

    monkeypatch.setattr(DrawingProgram, "main", main)
    seen = command.until_first_step(100.0, "x.ckpt", FIRST["first-packed"])
    assert (seen["wall"], seen["cpu"]) == (7.0, 5.0) and seen["peak"] > 2**20

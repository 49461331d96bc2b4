"""The end-to-end benchmark draws with every way; the script for a card lists what it would do."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import end_to_end

ROOT = Path(__file__).resolve().parents[2]


def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_both_sides_draw_and_their_turns_are_timed(capsys):
    command = "--device cpu --narrow --size 64 --steps 2 --rounds 2 --ways ours diffusers"
    seconds = end_to_end.main(command.split())
    assert {way: len(turns) for way, turns in seconds.items()} == {"ours": 2, "diffusers": 2}
    printed = capsys.readouterr().out
    assert "| diffusers |" in printed and "1.00 |" in printed


def test_a_turn_of_several_batches_is_timed_by_the_batch(monkeypatch):
    clock, turns = iter(range(100)), []

    @contextmanager
    def side(config, options, args):  # noqa: ARG001
        yield lambda rows, batches: turns.append((rows, batches))

    monkeypatch.setattr(end_to_end, "ours", side)
    monkeypatch.setattr(end_to_end.time, "perf_counter", lambda: next(clock))
    command = "--device cpu --batch 3 --batches 4 --rounds 2 --ways ours"
    assert end_to_end.measure(end_to_end.parse_args(command.split()), None) == {"ours": [0.25] * 2}
    assert turns == [(3, 4)] * 3


def test_a_way_that_overlaps_starts_the_next_batch_before_it_waits_for_one():
    log = []

    def start(work, x):
        log.append(f"start {x}")
        return lambda: log.append(f"wait {x}") or work(x)

    decode = lambda x: 10 * x  # noqa: E731
    found = end_to_end.decoded(iter([1, 2]), decode, SimpleNamespace(start=start))
    assert list(found) == [*end_to_end.decoded(iter([1, 2]), decode, None)] == [10, 20]
    assert log == ["start 1", "start 2", "wait 1", "wait 2"]


def test_nothing_overlaps_on_a_processor():
    with end_to_end.beside_on(torch.device("cpu"), {"decode_beside": "auto"}) as beside:
        assert beside is None


def test_ratios_are_to_the_last_way():
    lines = end_to_end.table({"ours": [1.0, 3.0, 2.0], "diffusers": [4.0]}, batch=8)
    assert lines[2] == "| ours | 2.000 | 4.00 | 2.00 |"


@pytest.mark.parametrize(
    "bad", ["--size 100", "--steps 0", "--batch 0", "--batches 0", "--ways nobody"]
)
def test_what_cannot_be_measured_is_refused(bad):
    with pytest.raises(SystemExit):
        end_to_end.parse_args([*bad.split(), "--device", "cpu"])


def test_a_dry_run_lists_every_command_and_stays_within_eight_minutes(tmp_path):
    done = script("--dry", OUT=str(tmp_path / "out"))
    limits = [int(line[1:].split()[0]) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(limits) == 6 and sum(limits) <= 480
    assert not (tmp_path / "out").exists()
    named = [word for word in done.stdout.split() if word.endswith(".py")]
    assert named and all((ROOT / name).is_file() for name in named)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_without_a_device_the_script_says_so_in_one_line():
    done = script()
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "no CUDA device" in done.stderr


def test_an_unknown_argument_of_the_script_is_refused():
    done = script("--wet")
    assert done.returncode == 2 and "--wet given" in done.stderr

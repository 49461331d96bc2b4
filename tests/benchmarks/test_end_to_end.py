"""The end-to-end benchmark draws with every way; the script for a card lists what it would do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

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


def test_ratios_are_to_the_last_way():
    lines = end_to_end.table({"ours": [1.0, 3.0, 2.0], "diffusers": [4.0]}, batch=8)
    assert lines[2] == "| ours | 2.000 | 4.00 | 2.00 |"


@pytest.mark.parametrize("bad", ["--size 100", "--steps 0", "--batch 0", "--ways nobody"])
def test_what_cannot_be_measured_is_refused(bad):
    with pytest.raises(SystemExit):
        end_to_end.parse_args([*bad.split(), "--device", "cpu"])


def test_a_dry_run_lists_every_command_and_stays_within_eight_minutes(tmp_path):
    done = script("--dry", OUT=str(tmp_path / "out"))
    limits = [int(line[1:].split()[0]) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(limits) == 5 and sum(limits) <= 480
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

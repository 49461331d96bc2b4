"""The sampling benchmark runs, compares like with like, and writes what it found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark():
    pytest.importorskip("diffusers")
    from benchmarks import sampling

    return sampling


def test_both_sides_compute_the_same_and_the_result_is_saved(
    benchmark, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "results")
    command = "--narrow --size 64 --steps 2 --rounds 2 --device cpu --dtype float32 --save check"
    (result,) = benchmark.main(command.split())
    assert {len(seconds) for seconds in result.seconds.values()} == {4}
    assert {"ours", "ours, --kernels plain", "diffusers"} <= set(result.seconds)
    assert max(result.apart.values()) < 1e-4  # the trajectory's tolerance of tests/parity
    assert result.ratio > 0
    saved = (tmp_path / "results" / "sampling-check.md").read_text(encoding="utf-8")
    assert "benchmarks/sampling.py --narrow" in saved
    assert "| 64 | float32 |" in saved
    assert "ours / it" in capsys.readouterr().out


@pytest.mark.parametrize("bad", ["--steps 0", "--rounds 0", "--steps 51", "--size 100"])
def test_numbers_that_cannot_be_measured_are_refused(benchmark, bad, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.parse_args(bad.split())
    assert caught.value.code == 2
    assert bad.split()[0] in capsys.readouterr().err


def test_help_imports_no_torch():
    code = (
        "import sys\nsys.argv[1:] = ['--help']\nfrom benchmarks import sampling\n"
        "try:\n    sampling.main()\nexcept SystemExit:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"

"""The training benchmark runs, compares like with like, and writes what it found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmark():
    pytest.importorskip("diffusers")
    from benchmarks import training

    return training


def test_both_sides_have_the_same_loss_and_the_result_is_saved(
    benchmark, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path / "results")
    command = "--channels 32 --size 64 --batch 1 --steps 1 --rounds 1 --device cpu --save check"
    (result,) = benchmark.main([*command.split(), "--dtype", "float32"])
    assert {name: len(seconds) for name, seconds in result.seconds.items()} == {
        "ours": 1,
        "diffusers": 1,
        "pictures": 1,
    }
    assert result.apart < 1e-5
    # Weights, gradients, two moments, averages: what both sides must hold, of 8.7 M parameters.
    assert all(peak > 5 * 4 * 8.5e6 for peak in result.peak.values())
    saved = (tmp_path / "results" / "training-check.md").read_text(encoding="utf-8")
    assert "benchmarks/training.py --channels 32" in saved
    assert "| float32 |" in saved
    assert "ours / diffusers" in capsys.readouterr().out


def test_a_step_of_each_side_moves_its_weights_and_averages(benchmark):
    from benchmarks.training_sides import make_batches, make_sides

    sizes = benchmark.overrides(32, 64, False)
    ours, theirs = make_sides(str(benchmark.CONFIG), sizes, "cpu")
    stored, _ = make_batches(ours.model, 64, 1)
    unet = ours.model.model.diffusion_model
    for side, parameters in ((ours, unet.parameters()), (theirs, theirs.unet.parameters())):
        before = torch.cat([p.detach().flatten()[:1] for p in parameters])
        side.step(stored, torch.float32)
        side.step(stored, torch.float32)
        moving = unet if side is ours else theirs.unet
        after = torch.cat([p.detach().flatten()[:1] for p in moving.parameters()])
        assert not torch.equal(before, after)
    assert int(ours.model.model_ema.num_updates) == 2
    assert theirs.ema.optimization_step == 2


@pytest.mark.parametrize("bad", ["--steps 0", "--rounds 0", "--size 100", "--channels 33"])
def test_numbers_that_cannot_be_measured_are_refused(benchmark, bad, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark.parse_args(bad.split())
    assert caught.value.code == 2
    assert bad.split()[0] in capsys.readouterr().err


def test_help_imports_no_torch():
    code = (
        "import sys\nsys.argv[1:] = ['--help']\nfrom benchmarks import training\n"
        "try:\n    training.main()\nexcept SystemExit:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"

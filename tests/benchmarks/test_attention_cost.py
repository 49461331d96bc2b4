"""The cost benchmark lets every way take turns in both checkouts, and writes what it found."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from narrow_models import narrow_config, narrow_model

from benchmarks import attention_cost as cost
from benchmarks import attention_cost_worker as worker_module
from ldm.errors import UserError

ROOT = Path(__file__).parents[2]
ECHO = """
import json, sys
print(sys.argv[1:], file=sys.stderr)
for line in sys.stdin:
    order = json.loads(line)
    peak = {"none": 1000, "store": 4000}.get(order["way"], 2000)
    print(json.dumps({"seconds": [peak / 1e4] * order["steps"], "peak": peak}), flush=True)
"""


@pytest.fixture
def worker():
    unet = narrow_model(narrow_config("v1")).model.diffusion_model
    return worker_module.Worker(unet.eval().requires_grad_(False), 8)


@pytest.fixture
def echo(tmp_path, monkeypatch):
    """Put a process that answers at once in the place of the worker."""
    path = tmp_path / "echo.py"
    path.write_text(ECHO, encoding="utf-8")
    monkeypatch.setattr(cost, "WORKER", path)
    return path


@torch.inference_mode()
def test_every_way_takes_its_steps_and_leaves_the_unet_as_it_was(worker):
    def plain() -> torch.Tensor:
        walk = worker._walk()
        return [next(walk) for _ in range(2)][-1]

    before = plain()
    for way in cost.WAYS:
        assert len(worker.turn(way, 2, time.perf_counter).seconds) == 2
    assert torch.equal(plain(), before)


def test_what_a_store_keeps_counts_as_memory(worker):
    plain, stored = (worker.weigh(way, 2).peak for way in ("none", "store"))
    assert 0 < plain < stored


def test_both_checkouts_are_asked_in_turns_and_the_result_is_saved(
    echo, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(cost, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(cost, "checkout", lambda _: nullcontext(tmp_path))
    turns = []
    own = cost.Side.turn

    def turn(side, way, steps, **options):
        turns.append((side.root == ROOT, way, options.get("weigh", False)))
        return own(side, way, steps, **options)

    monkeypatch.setattr(cost.Side, "turn", turn)
    assert cost.main(["--rounds", "2", "--steps", "3", "--save", "check"]) == 0
    each = [(False, "none"), *((True, way) for way in cost.WAYS)]
    assert turns == [(*a, True) for a in each] + [(*a, False) for a in each] * 2
    saved = (tmp_path / "results" / "attention-cost-check.md").read_text(encoding="utf-8")
    assert (
        "| store | 0.4000 | **4.000** | 0.4000 to 0.4000 | 0.4000 | 4.000 | 0.0 | 4.00 |" in saved
    )
    assert "| before | 0.1000 | **1.000** |" in saved
    assert saved.strip() in capsys.readouterr().out


def test_a_side_that_ends_is_one_line(echo, tmp_path):
    echo.write_text("raise SystemExit(3)", encoding="utf-8")
    side = cost.Side(tmp_path, "bundled", 16, "perf_counter")
    with pytest.raises(UserError, match="ended during 'none'"):
        side.turn("none", 1)
    side.close()


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="no history")
def test_a_checkout_holds_the_packages_of_its_commit_and_goes_away():
    with cost.checkout("HEAD") as folder:
        assert (folder / "ldm" / "config.py").is_file()
        assert (folder / "models").resolve() == ROOT / "models"
    assert not folder.exists() and (ROOT / "models").is_dir()
    with pytest.raises(UserError, match="no such commit"), cost.checkout("0123abc"):
        pass


@pytest.mark.parametrize(
    "bad", ["--steps 0", "--steps 20", "--rounds 0", "--size 100", "--model v9"]
)
def test_numbers_that_cannot_be_measured_are_refused(bad, capsys):
    with pytest.raises(SystemExit) as caught:
        cost.parse_args(bad.split())
    assert caught.value.code == 2
    assert bad.split()[0] in capsys.readouterr().err


def test_help_imports_no_torch():
    code = (
        "import sys\nsys.argv[1:] = ['--help']\nfrom benchmarks import attention_cost\n"
        "try:\n    attention_cost.main()\nexcept SystemExit:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"

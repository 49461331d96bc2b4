"""Ray Train's processes train main.py's run together, and go on with it after a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from running import load_program

pytest.importorskip("ray.train")

TESTS = Path(__file__).resolve().parents[2]
PROGRAM = load_program("scripts/launch_training.py")


def test_two_workers_train_and_after_a_failure_go_on_where_they_had_saved(work, monkeypatch, capfd):
    """The first attempt fails in its fifth step; the second one's steps are counted from 0."""
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    failing = "model.params.failure=error_0 model.params.at=4 --checkpoint_every 3"
    base = f"--base {work.folder / 'config.yaml'} {failing}"
    entries = {"launcher": "ray", "name": "run", "logdir": str(work.folder), "devices": 2}
    entries |= {"accelerator": "cpu", "arguments": base, "retries": 1}
    path = work.folder / "ray.yaml"
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    monkeypatch.chdir(work.folder)
    assert PROGRAM.main([str(path)]) == 0
    saved = work.checkpoint("run")
    assert saved["global_step"] == 7
    assert saved["training_progress"]["samples_done"] == 38  # a pass is 10: 8 and 2
    assert list(work.figures("run", "train/loss")) == list(range(7))

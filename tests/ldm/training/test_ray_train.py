"""Ray Train's processes train main.py's run together, and go on with one that had saved."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from running import load_program

from ldm.training.launching import Launch

pytest.importorskip("ray.train")

TESTS = Path(__file__).resolve().parents[2]
PROGRAM = load_program("scripts/launch_training.py")


def test_two_workers_go_on_with_a_run_that_had_saved(work, monkeypatch):
    """As Ray's second attempt does after a process was lost, or a person's."""
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.chdir(work.folder)
    assert work.start("run", "--max_steps", "2") == 0
    entries = {"launcher": "ray", "name": "run", "logdir": str(work.folder), "devices": 2}
    entries |= {"accelerator": "cpu", "arguments": "--max_steps 6", "retries": 1}
    path = work.folder / "ray.yaml"
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    assert PROGRAM.main([str(path)]) == 0
    saved = work.checkpoint("run")
    assert saved["global_step"] == 6
    # Two batches of 4, then four of 8 but for the ends of passes of 10, which hold 2.
    assert saved["training_progress"]["samples_done"] == 8 + 2 + 8 + 2 + 8
    assert list(work.figures("run", "train/loss")) == list(range(6))


def test_ray_is_asked_for_what_the_file_says(tmp_path):
    from ldm.training.ray_train import _trainer

    launch = Launch("ray", "mine", "", str(tmp_path), nodes=2, devices=4, cpus=3, retries=5)
    trainer = _trainer(launch, ["data.params.batch_size=8"])
    assert trainer.scaling_config.num_workers == 8
    assert trainer.scaling_config.use_gpu
    assert trainer.scaling_config.resources_per_worker == {"CPU": 3, "GPU": 1}
    assert trainer.run_config.failure_config.max_failures == 5

"""Forks trained by main.py, with a command line and a YAML in the reference's style."""

from __future__ import annotations

import sys

import pytest
import torch
import yaml
from descendants import test_control, test_custom_diffusion
from preloaded import run_main

ITEMS = "descendants.exercise.items"
SIDES = [16, 16, 3]
# Configuration, the data set, an override and the weight that learns.
FORKS = {
    "control": (
        test_control.config,
        {"target": ITEMS, "params": {"hint": SIDES}},
        "model.params.control_stage_config.params.model_channels=32",
        "control_model.",
    ),
    "custom_diffusion": (
        test_custom_diffusion.config,
        {"target": ITEMS, "params": {"mask": [16, 16, 1]}},
        "model.params.cond_stage_trainable=False",
        "model.diffusion_model.",
    ),
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
@pytest.mark.parametrize("fork", FORKS)
def test_main_trains_and_resumes_a_fork_by_the_reference_s_command_line(fork, tmp_path):
    config, data, override, learns = FORKS[fork]
    loader = {"batch_size": 2, "num_workers": 0, "wrap": False, "train": data}
    written = {
        "model": {"base_learning_rate": 1e-3, **config()},
        "data": {"target": "main.DataModuleFromConfig", "params": loader},
        "lightning": {
            "callbacks": {
                "image_logger": {
                    "target": "main.ImageLogger",
                    "params": {"batch_frequency": 1, "max_images": 1, "increase_log_steps": False},
                }
            },
            "trainer": {"benchmark": True, "log_every_n_steps": 1},
        },
    }
    (tmp_path / "fork.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    style = ["-t", "True", "--base", "fork.yaml", "-n", "run", "-l", ".", "--no-test", "True"]
    code, output = run_main(*style, "--gpus", "0", "--max_steps", "1", override, cwd=tmp_path)
    assert code == 0, output[-2000:]
    (run,) = tmp_path.glob("*_run")
    first = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert list(run.glob("images/train/*.png"))
    code, output = run_main("-t", "True", "-r", run, "--max_steps", "2", cwd=tmp_path)
    assert code == 0, output[-2000:]
    second = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert second["global_step"] == 2
    moved = {n for n, w in second["state_dict"].items() if not torch.equal(w, first[n])}
    assert any(name.startswith(learns) for name in moved)

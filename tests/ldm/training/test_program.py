"""How settings become a run: learning rate, Trainer, loggers, tests, precision."""

from __future__ import annotations

import re

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from pytorch_lightning.plugins.precision import MixedPrecision
from tiny_model import CONFIG

import main
from ldm.config import build
from ldm.images.opening import most_pixels
from ldm.training.arguments import parse
from ldm.training.settings import find_run, load_run_config


def rate_of(out: str) -> float:
    return float(re.search(r"learning rate (\S+)", out)[1])


@pytest.mark.parametrize(
    ("arguments", "rate"),
    [
        ((), 0.04),
        (("--accumulate_grad_batches", "3"), 0.12),
        (("data.params.batch_size=2",), 0.02),
        (("--scale_lr", "false"), 0.01),
    ],
)
def test_the_rate_is_scaled_by_accumulation_and_batch_size_as_the_reference(
    work, capsys, arguments, rate
):
    assert work.start("run", "--max_steps", "1", *arguments) == 0
    assert rate_of(capsys.readouterr().out) == pytest.approx(rate)
    assert float(work.figures("run", "lr-AdamW")[0]) == pytest.approx(rate)


def test_a_test_runs_after_training_only_where_there_is_a_test_set(work, capsys):
    assert work.start("without", "--max_steps", "1") == 0
    assert "Test metric" not in capsys.readouterr().out
    test_set = "data.params.test.target=training_parts.Pictures"
    assert work.start("skipped", "--max_steps", "1", test_set, "--no-test") == 0
    assert "Test metric" not in capsys.readouterr().out
    assert work.start("with", "--max_steps", "1", test_set) == 0
    assert "Test metric" in capsys.readouterr().out


def test_a_run_without_a_validation_set_trains_without_a_remark(work, recwarn):
    config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
    del config["data"]["params"]["validation"]
    work.write(config)
    assert work.start("run") == 0
    assert not [w for w in recwarn if "length" in str(w.message)]


def test_validating_every_zero_batches_is_refused(work, capsys):
    assert work.start("run", "--val_check_interval", "0") == 2
    assert "limit_val_batches" in capsys.readouterr().err


def test_a_resumed_run_is_tested_with_its_own_weights_without_training(work, capsys):
    assert work.start("run") == 0
    test_set = [
        "data.params.test.target=training_parts.Pictures",
        "data.params.test.params.length=6",
    ]
    capsys.readouterr()
    assert main.main(["-r", str(work.run("run")), *test_set]) == 0
    (step, tested), *more = work.figures("run", "test/loss").items()
    assert (step, more) == (7, [])
    # Another draw of noise than validation's, and two more steps; untrained it is above 0.4.
    assert float(tested) == pytest.approx(float(work.figures("run", "val/loss")[4]), abs=0.08)
    assert float(tested) < 0.35


@pytest.mark.parametrize(
    ("gpus", "accelerator", "devices"),
    [
        ("1", "gpu", 1),
        ("2", "gpu", 2),
        ("0,", "gpu", [0]),
        ("2,", "gpu", [2]),
        ("0,1", "gpu", [0, 1]),
        ("-1", "gpu", -1),
        ("0", "cpu", 1),
    ],
)
def test_gpus_is_a_number_and_with_a_comma_a_list(work, gpus, accelerator, devices):
    options = parse(["-b", str(work.folder / "config.yaml"), "--gpus", gpus])
    _, _, lightning = load_run_config(options, find_run(options))
    assert lightning.trainer.accelerator == accelerator
    assert lightning.trainer.devices == devices


def test_gpus_of_a_configuration_may_be_a_list(work):
    config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
    config["lightning"]["trainer"]["gpus"] = [3]
    work.write(config)
    options = parse(["-b", str(work.folder / "config.yaml")])
    assert load_run_config(options, find_run(options))[2].trainer.devices == [3]


def test_gpus_that_are_no_numbers_are_one_line(work, capsys):
    assert work.start("run", "--gpus", "all") == 2
    assert "'all'" in capsys.readouterr().err


def test_older_configurations_with_gpus_zero_train_on_the_cpu(work, capsys):
    assert work.start("run", "--max_steps", "1", "--gpus", "0") == 0
    assert "1 x cpu" in capsys.readouterr().out


def test_bfloat16_training_works_on_the_cpu_and_keeps_float32_weights(work):
    assert work.start("run", "--precision", "bf16-mixed", "--accelerator", "cpu") == 0
    weights = work.checkpoint("run")["state_dict"]
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float32"}


def test_gradients_of_a_diffusion_model_are_clipped_under_mixed_precision():
    model = build(OmegaConf.create(CONFIG))
    optimizer = model.configure_optimizers()
    for parameter in model.trainable_parameters():
        parameter.grad = torch.ones_like(parameter)
    MixedPrecision("bf16-mixed", "cpu").clip_gradients(optimizer, 1.0)
    norm = torch.stack([p.grad.norm() for p in model.trainable_parameters()]).norm()
    assert norm.item() == pytest.approx(1.0, rel=1e-3)


def test_a_monitor_that_validation_does_not_log_is_found_before_training(work, capsys):
    assert work.start("run", "model.params.monitor=val/los") == 2
    line = capsys.readouterr().err
    assert "'val/los'" in line
    assert "val/loss" in line
    assert not list(work.run("run").glob("checkpoints/*.ckpt"))


def test_callbacks_of_the_configuration_are_added_and_changed_by_name(work):
    config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
    config["lightning"]["callbacks"] |= {
        "image_logger": {"target": "main.ImageLogger", "params": {"batch_frequency": 3}},
        "cuda_callback": None,
        "timer": {"target": "pytorch_lightning.callbacks.Timer", "params": {}},
    }
    config["lightning"]["modelcheckpoint"] = {"params": {"save_top_k": 1}}
    work.write(config)
    assert work.start("run", "--val_check_interval", "2") == 0
    assert "Timer" in work.checkpoint("run")["callbacks"]
    assert (
        "cuda_callback: null" in next(work.run("run").glob("configs/*-lightning.yaml")).read_text()
    )
    assert len(list(work.run("run").glob("checkpoints/epoch*.ckpt"))) == 1
    steps = {path.name[:16] for path in work.run("run").glob("images/train/inputs*")}
    assert steps == {"inputs_gs-000001", "inputs_gs-000002", "inputs_gs-000003", "inputs_gs-000006"}


def test_pictures_may_be_as_large_as_the_command_line_says(monkeypatch):
    monkeypatch.setenv("LDM_MAX_PIXELS", "7")  # to be restored
    assert main.main(["--train", "--max_pixels", "99", "--base", "nothing.yaml"]) == 2
    assert most_pixels() == 99

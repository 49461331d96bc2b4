"""What the Trainer is given is checked in words, before anything is built."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from ldm.errors import UserError
from ldm.training.arguments import TRAINER_FLAGS, parse
from ldm.training.settings import find_run, load_run_config
from ldm.training.trainer_values import check_trainer


@pytest.fixture
def loaded(tmp_path):
    """Load a run's configuration with further arguments; return its ``lightning`` section."""
    path = tmp_path / "a.yaml"
    path.write_text("model: {target: a.b}\nlightning: {trainer: {max_steps: 5}}")

    def load(*argv):
        options = parse(["--base", str(path), "--logdir", str(tmp_path / "logs"), *argv])
        return load_run_config(options, find_run(options))[2]

    return load


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_steps", "abc", "a whole number, -1 or more"),
        ("max_steps", "-5", "a whole number, -1 or more"),
        ("max_steps", "true", "a whole number"),
        ("max_epochs", "1.5", "a whole number or null"),
        ("accumulate_grad_batches", "x", "a whole number, 1 or more"),
        ("accumulate_grad_batches", "0", "a whole number, 1 or more"),
        ("num_nodes", "two", "a whole number"),
        ("limit_val_batches", "half", "a number"),
        ("overfit_batches", "some", "a number"),
        ("gradient_clip_val", "big", "a number"),
        ("precision", "7", "16-mixed"),
        ("deterministic", "maybe", "warn, true or false"),
        ("benchmark", "7", "true or false"),
        ("fast_dev_run", "maybe", "true or false"),
        ("log_every_n_steps", "often", "a whole number"),
        ("num_sanity_val_steps", "[1]", "a whole number"),
    ],
)
def test_a_value_of_another_kind_is_told_with_what_the_setting_takes(name, value, expected, loaded):
    for argv in ([f"--{name}={value}"], [f"lightning.trainer.{name}={value}"]):
        with pytest.raises(UserError) as caught:
            loaded(*argv)
        text = str(caught.value)
        assert text.startswith(f"lightning.trainer.{name} is ") and f"with --{name}" in text
        assert expected in text.split("; ")[1]


def test_only_flags_that_there_are_are_advised():
    trainer = OmegaConf.create({"inference_mode": "often"})
    with pytest.raises(UserError, match="change it there$"):
        check_trainer(trainer)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("max_steps", "1e3", 1000),
        ("max_steps", "-1", -1),
        ("benchmark", "1", True),
        ("detect_anomaly", "0", False),
        ("limit_val_batches", "0.5", 0.5),
        ("gradient_clip_val", "1", 1),
        ("precision", "16", 16),
        ("precision", "bf16-mixed", "bf16-mixed"),
        ("deterministic", "warn", "warn"),
        ("profiler", "simple", "simple"),
        ("max_epochs", "none", None),
    ],
)
def test_a_value_of_the_right_kind_arrives_as_it_is_meant(name, value, read, loaded):
    found = loaded(f"--{name}", value).trainer[name]
    assert found == read and type(found) is type(read)


def test_every_flag_of_the_trainer_is_checked_by_an_annotation():
    for name in TRAINER_FLAGS:
        trainer = OmegaConf.create({name: {"a": {"b": 1}}})
        if name == "val_check_interval":  # a mapping is a duration there
            continue
        with pytest.raises(UserError, match=f"trainer.{name} is"):
            check_trainer(trainer)


@pytest.mark.parametrize("interval", ["0", "-1", "0.0"])
def test_validation_is_not_turned_off_by_its_interval(interval, loaded):
    with pytest.raises(UserError, match="limit_val_batches=0"):
        loaded("--val_check_interval", interval)


@pytest.mark.parametrize(
    ("flags", "strategy"),
    [
        (("--devices", "2"), "ddp_find_unused_parameters_true"),
        (("--devices", "2", "--strategy", "ddp"), "ddp_find_unused_parameters_true"),
        (("--devices", "2", "--strategy", "fsdp"), "fsdp"),
        (("--devices", "1"), None),
    ],
)
def test_the_references_find_unused_parameters_is_a_strategy_of_several_devices(
    flags, strategy, loaded
):
    lightning = loaded("lightning.find_unused_parameters=true", *flags)
    assert lightning.trainer.get("strategy") == strategy
    assert "find_unused_parameters" not in lightning
    lightning = loaded("lightning.find_unused_parameters=false", *flags)
    assert lightning.trainer.get("strategy") in (None, "ddp", "fsdp")

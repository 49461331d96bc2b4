"""A run on shards that was interrupted and resumed is the run that never was."""

from __future__ import annotations

import sys

import pytest
import torch
import yaml
from tar_shards import write_shards
from tiny_training import assert_same_run

pytest.importorskip("webdataset")
FORK = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")


@pytest.fixture
def shards(work):
    """Let the runs train on four shards, of 22 samples in all."""
    write_shards(work.folder / "shards", [5, 6, 5, 6], bad=(3,))
    config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
    params = {"shards": str(work.folder / "shards"), "size": 16, "repeat": True, "shuffle": 3}
    params |= {"random_crop": True, "flip_p": 0.5}
    config["data"]["params"] |= {
        "batch_size": 2,
        "train": {"target": "ldm.data.shards.CaptionedShards", "params": params},
    }
    work.write(config)
    return work


def test_a_resumed_run_goes_on_with_the_next_sample_whatever_workers_read_ahead(shards):
    more = ("data.params.num_workers=2", "--max_steps")
    assert shards.start("whole", *more, "9") == 0
    assert shards.start("parts", *more, "3") == 0
    assert shards.go_on("parts", "--max_steps", "4") == 0
    assert shards.go_on("parts", "--max_steps", "9") == 0
    assert_same_run(shards, "whole", "parts", "train/loss")


@pytest.mark.parametrize("stop", [2, 3], ids=["in_an_epoch", "between_two"])
def test_epochs_of_so_many_batches_and_of_single_passes_are_resumed_too(shards, stop):
    for name, more in (
        ("long", ("--limit_train_batches", "3")),
        ("single", ("data.params.train.params.repeat=false", "data.params.batch_size=7")),
    ):
        assert shards.start(f"{name}_whole", *more, "--max_steps", "7") == 0
        assert shards.start(f"{name}_halves", *more, "--max_steps", str(stop)) == 0
        assert shards.go_on(f"{name}_halves", "--max_steps", "7") == 0
        assert_same_run(shards, f"{name}_whole", f"{name}_halves", "train/loss")


@FORK
def test_each_of_two_processes_goes_on_in_its_own_shards(shards):
    two = ("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp_fork")
    shards.start_apart("whole", *two, "--max_steps", "5")
    shards.start_apart("halves", *two, "--max_steps", "2")
    (first, *_), (second, *_) = shards.checkpoint("halves")["training_progress"]["stream"]["places"]
    assert first[1] >= second[1] == 4  # the first's shards hold what cannot be read
    shards.go_on_apart("halves", "--max_steps", "5")
    assert_same_run(shards, "whole", "halves", "train/loss")


def test_other_workers_or_shards_are_told_and_the_run_goes_on(shards, capsys):
    assert shards.start("run", "--max_steps", "3") == 0
    capsys.readouterr()
    assert shards.go_on("run", "--max_steps", "5", "data.params.num_workers=2") == 0
    out = capsys.readouterr().out
    assert "had 1 processes with 1 readers each, now 1 with 2; give --devices and" in out
    assert shards.go_on("run", "--max_steps", "7", "data.params.num_workers=2") == 0
    assert "cannot be continued" not in capsys.readouterr().out
    write_shards(shards.folder / "shards", [5] * 5)
    assert shards.go_on("run", "--max_steps", "8", "data.params.num_workers=2") == 0
    assert "its shards, seed or shuffle are others" in capsys.readouterr().out
    state = shards.checkpoint("run")["state_dict"]
    assert all(torch.isfinite(value).all() for value in state.values())

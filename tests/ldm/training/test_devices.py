"""Several processes train what one would with all their batches together; the first one writes."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
import yaml
from running import run_program
from tiny_training import TINY_DIFFUSION, assert_same_run
from torch.utils.data import IterableDataset
from training_parts import Denoiser

import main
from ldm.data.base import Txt2ImgIterableBaseDataset
from ldm.errors import UserError
from ldm.training.arguments import parse
from ldm.training.data import DataModuleFromConfig
from ldm.training.settings import find_run, load_run_config
from ldm.training.strategies import choose_strategy

TESTS = str(Path(__file__).resolve().parents[2])
FORK = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")


def record(work, name: str, *arguments: str) -> list[dict]:
    """Train with a ``Recorder`` and return what each process noted."""
    folder = work.folder / f"record_{name}"
    recorder = [
        "lightning.callbacks.recorder.target=training_parts.Recorder",
        f"lightning.callbacks.recorder.params.folder={folder}",
    ]
    work.start_apart(name, *recorder, *arguments)
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))]


@FORK
def test_two_processes_step_with_the_gradients_of_one_with_the_same_global_batch(work):
    quiet = ("model.params.noise=0", "data.params.train.params.length=8", "--max_steps", "3")
    rate = ("--scale_lr", "false")
    (one,) = record(work, "one", *quiet, *rate, "data.params.batch_size=4")
    two = record(
        work,
        "two",
        *(*quiet, *rate, "data.params.batch_size=2"),
        *("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp_fork"),
    )
    assert len(two) == 2
    assert len(one["gradients"]) == 3
    for other in two:
        torch.testing.assert_close(other["gradients"], one["gradients"], rtol=1e-5, atol=1e-7)
    first, second = (set(process["seen"][:4]) for process in two)
    assert not first & second
    assert first | second == set(one["seen"][:8]) == {f"ramp {i}" for i in range(8)}


@FORK
def test_a_diffusion_model_keeps_one_average_and_one_scale_on_all_processes(work):
    config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
    work.write({**config, "model": copy.deepcopy(TINY_DIFFUSION)})
    devices = ("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp_fork")
    first, second = record(work, "run", "--max_steps", "2", *devices)
    assert first["seen"] != second["seen"]
    assert float(first["buffers"]["scale_factor"]) != 1.0
    torch.testing.assert_close(first["buffers"], second["buffers"], rtol=0, atol=0)
    torch.testing.assert_close(first["gradients"], second["gradients"], rtol=0, atol=0)


@FORK
def test_a_text_encoder_of_bert_s_kind_learns_on_several_devices(work):
    """Its checkpoints hold a layer of logits that conditioning never reaches."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ramp"]
    (work.folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    model = copy.deepcopy(TINY_DIFFUSION)
    sizes = {"n_embed": 16, "n_layer": 1, "vocab_size": 8, "max_seq_len": 8}
    model["params"]["cond_stage_config"] = {
        "target": "ldm.modules.encoders.modules.BERTEmbedder",
        "params": {**sizes, "tokenizer_path": str(work.folder)},
    }
    config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
    work.write({**config, "model": model})
    devices = ("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp_fork")
    work.start_apart("run", "--max_steps", "3", *devices)
    assert work.checkpoint("run")["global_step"] == 3


@FORK
def test_shards_train_and_resume_as_whole_weights_do(work):
    """FSDP's checkpoint is DDP's, averages and optimizer state included, and goes on exactly."""
    config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
    model = copy.deepcopy(TINY_DIFFUSION)
    model["params"]["cond_stage_trainable"] = False
    work.write({**config, "model": model})
    pictures = ("lightning.callbacks.image_logger.params.disabled=false", "--val_check_interval")
    devices = ("--accelerator", "cpu", "--devices", "2", *pictures, "2", "--scale_lr", "false")
    work.start_apart("ddp", "--max_steps", "3", *devices, "--strategy", "ddp_fork")
    work.start_apart("fsdp", "--max_steps", "3", *devices, "--strategy", "fsdp_fork")
    work.start_apart("halves", "--max_steps", "1", *devices, "--strategy", "fsdp_fork")
    work.go_on_apart("halves", "--max_steps", "3")
    assert_same_run(work, "fsdp", "halves", "train/loss_simple_step")
    whole, shards = work.checkpoint("ddp"), work.checkpoint("fsdp")
    for part in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(shards[part], whole[part], rtol=1e-4, atol=1e-6)
    assert list(work.run("fsdp").glob("images/val/samples*"))


def test_shards_of_a_model_that_trains_more_than_its_network_are_refused(work, capsys):
    assert work.start("run", "--strategy", "fsdp", "--devices", "2", "--accelerator", "cpu") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "Denoiser trains 2 weights outside a diffusion network" in line
    assert "ddp" in line


def test_processes_started_by_the_program_make_one_run_folder_and_resume(work):
    """As a user starts it: ``ddp`` runs main.py again for each further process."""
    devices = ["--accelerator", "cpu", "--devices", "2"]
    base = ["-b", work.folder / "config.yaml", "-n", "run", "-l", work.folder, "--max_steps", "2"]
    path = {"PYTHONPATH": TESTS}
    code, out, err = run_program("main.py", *base, "-t", *devices, cwd=work.folder, **path)
    assert code == 0, err
    assert out.count("2 x cpu") == 1
    assert out.count("trained to step 2") == 1
    assert work.checkpoint("run")["training_progress"]["samples_done"] == 10
    names = {p.name for p in work.run("run").iterdir()}
    assert names == {"checkpoints", "configs", "images", "metrics.csv", "tensorboard"}
    assert len(list((work.run("run") / "configs").iterdir())) == 2
    assert list(work.figures("run", "train/loss")) == [0, 1]


def test_an_error_in_one_process_is_seen_and_ends_all(work):
    devices = ["--accelerator", "cpu", "--devices", "2", "--checkpoint_every", "1"]
    failure = ["model.params.failure=error_0", "model.params.at=1"]
    base = ["-b", work.folder / "config.yaml", "-n", "run", "-l", work.folder, "-t"]
    code, _, err = run_program(
        "main.py", *base, *devices, *failure, cwd=work.folder, PYTHONPATH=TESTS
    )
    assert code == 1
    assert "RuntimeError: a fault in the model" in err
    assert work.checkpoint("run")["global_step"] == 1


@pytest.mark.parametrize(
    ("given", "accelerator", "devices"),
    [
        ("2", "cpu", 2),
        ("0,", "gpu", [0]),
        ("0,1", "gpu", [0, 1]),
        ("[1,3]", "gpu", [1, 3]),
        ("0,1", "cpu", 2),
        ("auto", "auto", "auto"),
    ],
)
def test_devices_are_a_number_or_a_list(work, given, accelerator, devices):
    flags = ["--devices", given, "--accelerator", accelerator]
    options = parse(["-b", str(work.folder / "config.yaml"), *flags])
    assert load_run_config(options, find_run(options))[2].trainer.devices == devices


def test_devices_that_are_no_numbers_are_one_line(work, capsys):
    assert work.start("run", "--devices", "both") == 2
    assert "devices 'both' given; expected a number" in capsys.readouterr().err


def test_ddp_as_an_accelerator_of_older_configurations_is_the_strategy(work):
    options = parse(["-b", str(work.folder / "config.yaml"), "--accelerator", "ddp"])
    trainer = load_run_config(options, find_run(options))[2].trainer
    assert (trainer.accelerator, trainer.strategy) == ("auto", "ddp")


def test_several_devices_mean_ddp_that_looks_for_unused_weights_only_where_it_must():
    model = Denoiser()
    assert choose_strategy({"devices": 1}, model) == "auto"
    plain = choose_strategy({"devices": [0, 1]}, model)
    assert plain._ddp_kwargs["find_unused_parameters"] is False
    model.two_optimizers = True
    adversarial = choose_strategy({"devices": 2, "strategy": "auto"}, model)
    assert adversarial._ddp_kwargs["find_unused_parameters"] is True
    assert choose_strategy({"devices": 2, "strategy": "deepspeed"}, model) == "deepspeed"


class Stream(Txt2ImgIterableBaseDataset):
    """Yields its share of the records."""

    def __init__(self):
        super().__init__(num_records=8, valid_ids=range(8))

    def __iter__(self):
        yield from self.sample_ids


def test_processes_share_the_records_of_a_stream(monkeypatch):
    parts = []
    for rank in range(2):
        data = DataModuleFromConfig(2, train={"target": "no.matter"}, num_workers=0)
        data.datasets["train"] = Stream()
        monkeypatch.setattr(data, "_place", lambda rank=rank: (rank, 2))
        parts.append(torch.cat(list(data.train_dataloader())).tolist())
    assert isinstance(data.datasets["train"], IterableDataset)
    assert parts == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_weights_alone_are_kept_every_n_steps_and_cannot_be_resumed(work, capsys):
    regular = "lightning.callbacks.metrics_over_trainsteps_checkpoint.params.every_n_train_steps=2"
    assert work.start("run", "--max_steps", "4", regular) == 0
    folder = work.run("run") / "checkpoints" / "trainstep_checkpoints"
    kept = sorted(folder.iterdir())
    assert [path.name[-14:] for path in kept] == ["000000002.ckpt", "000000004.ckpt"]
    saved = torch.load(kept[0], weights_only=True)
    assert sorted(saved["state_dict"]) == ["average", "weight.bias", "weight.weight"]
    assert "optimizer_states" not in saved
    assert main.main(["-r", str(kept[0]), "-t"]) == 2
    assert "weights alone" in capsys.readouterr().err


def test_channels_last_weights_resume_the_same(work):
    config = yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))
    work.write({**config, "model": copy.deepcopy(TINY_DIFFUSION)})
    assert work.start("whole", "--max_steps", "3", "--channels_last") == 0
    assert work.start("halves", "--max_steps", "1", "--channels_last") == 0
    assert work.go_on("halves", "--max_steps", "3") == 0
    assert_same_run(work, "whole", "halves", "train/loss_simple_step")
    weight = work.checkpoint("halves")["state_dict"]["model.diffusion_model.out.2.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_strategy_that_is_not_there_is_one_line(work, capsys):
    assert work.start("run", "--strategy", "dpd") == 2
    assert "dpd" in capsys.readouterr().err
    with pytest.raises(UserError, match="--strategy"):
        parse(["--distributed_backend", "ddp"])

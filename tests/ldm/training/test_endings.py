"""A run that cannot be written, begun or gone on with ends in one line that says what to do."""

from __future__ import annotations

import errno
import resource
import zipfile
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import main
from ldm.errors import UserError
from ldm.training.checkpoints import AtomicCheckpointIO
from ldm.training.endings import endings_in_words
from ldm.training.metrics import MetricsFile


def told(capsys) -> str:
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("main.py: error")]
    return line


def test_a_run_folder_that_cannot_be_made_is_told_before_anything_is_built(work, capsys):
    assert work.start("x" * 260) == 2
    line = told(capsys)
    assert "too long" in line and "give another --logdir or --name" in line
    assert [path.name for path in work.folder.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("folder", ["checkpoints", "configs"])
def test_a_resumed_run_with_a_file_in_a_folders_place_is_told(work, capsys, folder):
    assert work.start("run", "--max_steps", "1") == 0
    place = work.run("run")
    checkpoint = place / "checkpoints" / "last.ckpt"
    other = place.with_name("other_again")
    (other / "checkpoints").mkdir(parents=True)
    checkpoint.rename(other / "checkpoints" / "last.ckpt")
    if folder == "configs":
        (other / "configs").write_text("x")
        argv = ["-r", str(other), "-t", "-b", str(work.folder / "config.yaml")]
        assert main.main(argv) == 2
        assert "configs' cannot be written to" in told(capsys)
    else:
        assert main.main(["-r", str(place), "-t"]) == 2
        assert "without checkpoints/last.ckpt" in told(capsys)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_figures_that_cannot_be_written_end_the_run_with_its_checkpoint_named(
    work, capsys, monkeypatch, number
):
    assert work.start("run", "--max_steps", "2") == 0

    def full(*_, **__):
        raise OSError(number, "the disk says no")

    monkeypatch.setattr(MetricsFile, "log_metrics", full)
    capsys.readouterr()
    assert work.go_on("run", "--max_steps", "4") == 2
    line = told(capsys)
    assert "the disk says no" in line and "last.ckpt is whole" in line and "--resume" in line


def test_an_error_of_reading_data_is_not_called_one_of_writing(work, monkeypatch):
    def locked(*_, **__):
        raise PermissionError(errno.EACCES, "no", "/somewhere/else.png")

    monkeypatch.setattr("training_parts.Pictures.__getitem__", locked)
    with pytest.raises(PermissionError):
        work.start("run")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed"),
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
)
def test_a_disk_that_fills_while_training_leaves_the_last_checkpoint(
    work, capsys, monkeypatch, error
):
    assert work.start("run", "--max_steps", "2") == 0

    def full(*_, **__):
        raise error

    monkeypatch.setattr(torch, "save", full)
    capsys.readouterr()
    assert work.go_on("run", "--max_steps", "4") == 2
    line = told(capsys)
    assert "last.ckpt' cannot be written" in line and "what it was is whole" in line
    monkeypatch.undo()
    assert work.checkpoint("run")["global_step"] == 2
    assert work.go_on("run", "--max_steps", "4") == 0


def test_a_real_limit_on_files_is_told_by_the_systems_reason(tmp_path):
    path = tmp_path / "last.ckpt"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot be written \((File too large|the disk is)"):
            AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")


UNUSABLE = {
    "empty": (lambda path: path.write_bytes(b""), "empty (0 bytes)"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:2000]), "cut short"),
    "a web page": (lambda path: path.write_bytes(b"<!doctype html><p>log in"), "a web page"),
    "a pointer": (
        lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "git-lfs pointer",
    ),
    "safetensors": (lambda path: save_file({"x": torch.zeros(3)}, path), "another format"),
    "an old format": (
        lambda path: torch.save({}, path, _use_new_zipfile_serialization=False),
        "another format",
    ),
    "another zip": (other_zip, "a zip that torch did not write"),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 9), "no checkpoint"),
    "a list": (lambda path: torch.save([1, 2], path), "holds a list"),
    "a tensor": (lambda path: torch.save(torch.zeros(3), path), "holds a Tensor"),
    "nothing": (lambda path: torch.save({}, path), ("weights alone", "has no state_dict")),
    "weights": (
        lambda path: torch.save({"state_dict": {"a": torch.zeros(1)}}, path),
        ("weights alone", "has no pytorch-lightning_version"),
    ),
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("training", [True, False])
def test_a_last_checkpoint_that_is_none_is_named_for_what_it_is(work, capsys, kind, training):
    assert work.start("run", "--max_steps", "1") == 0
    make, expected = UNUSABLE[kind]
    make(work.run("run") / "checkpoints" / "last.ckpt")
    capsys.readouterr()
    test_set = "data.params.test.target=training_parts.Pictures"
    argv = ["-t"] if training else [test_set]
    assert main.main(["-r", str(work.run("run")), *argv]) == 2
    words = expected if isinstance(expected, str) else expected[0 if training else 1]
    assert words in told(capsys)


@pytest.mark.parametrize("state", [None, [1], {"weight.weight": "x"}])
def test_a_checkpoint_without_tensors_is_told(work, capsys, state):
    assert work.start("run", "--max_steps", "1") == 0
    path = work.run("run") / "checkpoints" / "last.ckpt"
    torch.save({**work.checkpoint("run"), "state_dict": state}, path)
    capsys.readouterr()
    assert work.go_on("run") == 2
    assert "no tensors under state_dict" in told(capsys)


def test_another_optimizers_state_is_told(work, capsys):
    assert work.start("run", "--max_steps", "1") == 0
    saved = work.checkpoint("run")
    (state,) = saved["optimizer_states"]
    state["param_groups"].append(state["param_groups"][0])
    torch.save(saved, work.run("run") / "checkpoints" / "last.ckpt")
    capsys.readouterr()
    assert work.go_on("run") == 2
    assert "the checkpoint's optimizer is not this configuration's" in told(capsys)


@pytest.mark.parametrize("rate", ["abc", "-1", "0", "nan", "inf", "true", "[1]", "{a: 1}"])
def test_a_learning_rate_that_is_none_is_told(work, capsys, rate):
    assert work.start("run", f"model.base_learning_rate={rate}") == 2
    assert "expected a number above 0" in told(capsys)


@pytest.mark.parametrize("rate", ["1e-4", "'1e-4'", "1.0e-4", "1"])
def test_a_learning_rate_that_yaml_takes_for_a_text_is_read(work, rate):
    assert work.start("run", "--max_steps", "1", f"model.base_learning_rate={rate}") == 0


@pytest.mark.parametrize(
    "setting",
    [
        "--accelerator=tpu",
        "--profiler=xla",
        "--strategy=deepspeed",
        "--precision=transformer-engine",
        "lightning.logger.target=pytorch_lightning.loggers.WandbLogger",
        "lightning.logger.target=pytorch_lightning.loggers.MLFlowLogger",
        "lightning.logger.target=pytorch_lightning.loggers.CometLogger",
        "lightning.callbacks.mine.target=no_such_package.Callback",
    ],
)
def test_a_missing_package_of_a_logger_or_device_is_one_line(work, capsys, setting):
    assert work.start("run", setting) == 2
    line = told(capsys)
    assert any(words in line for words in ("install", "Install"))
    assert not list(work.folder.glob("*_run"))


@pytest.mark.parametrize(
    "setting",
    [
        "lightning.modelcheckpoint.params.save_top_k=x",
        "lightning.callbacks.progress_line.params.every_n_train_steps=x",
        "lightning.callbacks.progress_line.params.every_n_train_steps=-1",
        "lightning.callbacks.image_logger.params.batch_frequency=x",
        "lightning.callbacks.last_checkpoint.params.every_n_train_steps=x",
    ],
)
def test_a_callbacks_value_of_the_wrong_kind_is_one_line(work, capsys, setting):
    assert work.start("run", setting) == 2
    assert "expected" in told(capsys)
    assert not list(work.folder.glob("*_run"))


@pytest.mark.parametrize("accelerator", ["gpu", "mps", "teapot"])
def test_a_device_that_is_not_there_is_told_without_the_whole_configuration(
    work, capsys, accelerator
):
    if accelerator == "gpu" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    assert work.start("run", "--accelerator", accelerator) == 2
    line = told(capsys)
    assert f"accelerator={accelerator}" in line and "inference_mode" not in line


def test_an_error_in_words_keeps_what_caused_it(work):
    """The program looks for a missing package there."""

    def fails(*_, **__):
        raise UserError("no such model") from ModuleNotFoundError("no module named 'x'", name="x")

    trainer = SimpleNamespace(strategy=SimpleNamespace(launcher=None), callbacks=[])
    with pytest.raises(UserError, match="no such model") as raised, endings_in_words(trainer, None):
        fails()
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)

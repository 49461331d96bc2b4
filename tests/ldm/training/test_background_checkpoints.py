"""Checkpoints that a thread writes are those that training would have written itself."""

from __future__ import annotations

import errno
import threading
from types import SimpleNamespace

import pytest
import torch
from tiny_training import assert_same_run

from ldm.errors import UserError
from ldm.training import background_checkpoints
from ldm.training.background_checkpoints import BackgroundCheckpointIO, host_copy
from ldm.training.checkpoints import AtomicCheckpointIO, LastCheckpoint, Stopped

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def io():
    made = BackgroundCheckpointIO()
    yield made
    made.teardown()


def test_a_run_with_them_and_a_resumed_one_are_the_run_without(work, capsys):
    assert work.start("plain", "--checkpoint_every", "2") == 0
    assert work.start("behind", "--checkpoint_every", "2", "--async_checkpoints") == 0
    assert capsys.readouterr().out.count(": saved") == 8
    assert work.start("halves", "--max_steps", "3", "--async_checkpoints") == 0
    assert work.go_on("halves", "--max_steps", "7") == 0
    assert_same_run(work, "plain", "behind", "train/loss")
    assert_same_run(work, "plain", "halves", "train/loss")


def test_what_changes_while_it_is_written_is_not_in_the_file(io, tmp_path, monkeypatch):
    gate, real = threading.Event(), torch.save

    def save(*arguments):
        assert gate.wait(timeout=60)
        real(*arguments)

    monkeypatch.setattr(torch, "save", save)
    weight = torch.zeros(3)
    io.save_checkpoint({"weight": weight, "deep": [{"weight": weight}]}, tmp_path / "a.ckpt")
    weight += 1
    assert not list(tmp_path.glob("*.ckpt"))
    gate.set()
    found = io.load_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(found["weight"], torch.zeros(3))
    assert torch.equal(found["deep"][0]["weight"], torch.zeros(3))


def test_one_is_written_at_a_time_and_the_next_is_copied_after_it(io, tmp_path, monkeypatch):
    gate, order = threading.Event(), []

    def copy(value):
        order.append("copy")
        return value

    def save(_, checkpoint, path, options):
        assert gate.wait(timeout=60)
        order.append("written")

    def finish():
        gate.set()  # only whoever waits lets the first one end
        BackgroundCheckpointIO.finish(io)

    monkeypatch.setattr(background_checkpoints, "host_copy", copy)
    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save)
    io.save_checkpoint({}, tmp_path / "a.ckpt")
    monkeypatch.setattr(io, "finish", finish)
    io.save_checkpoint({}, tmp_path / "b.ckpt")
    io.finish()
    assert order == ["copy", "written", "copy", "written"]


def test_a_file_that_may_be_in_flight_is_removed_after_it_is_there(io, tmp_path):
    io.save_checkpoint({"step": 1}, tmp_path / "a.ckpt")
    io.remove_checkpoint(tmp_path / "a.ckpt")
    io.finish()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("then", ["save", "end"])
def test_a_failure_is_raised_where_the_next_one_or_the_end_waits(io, tmp_path, monkeypatch, then):
    path, told = tmp_path / "last.ckpt", []
    io.save_checkpoint({"step": 1}, path)
    io.when_written(lambda: told.append(1))
    io.finish()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", _fail)
        io.save_checkpoint({"step": 2}, path)
        io.when_written(lambda: told.append(2))
        with pytest.raises(UserError, match=r"last\.ckpt' cannot be written .*No space left"):
            io.save_checkpoint({"step": 3}, path) if then == "save" else io.teardown()
    assert io.load_checkpoint(path) == {"step": 1}
    assert told == [1]
    assert [held.name for held in tmp_path.iterdir()] == ["last.ckpt"]


def _fail(*_):
    raise FULL


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_the_run_after_the_last_one_is_whole(work, capsys, name, code):
    stop = (f"model.params.raise_signal={name}", "model.params.at=3")
    assert work.start("run", *stop, "--async_checkpoints") == code
    out = capsys.readouterr().out
    assert out.index("step 4: saved") < out.index(f"stopped by {name}")
    assert work.checkpoint("run")["global_step"] == 4


def test_a_process_ends_when_the_last_one_is_whole_and_all_others_have_come_so_far(tmp_path):
    """Whoever started several, such as srun, may end all of them when the first one has ended."""
    order = []
    io = type("IO", (AtomicCheckpointIO,), {"finish": lambda self: order.append("written")})()
    strategy = SimpleNamespace(checkpoint_io=io, barrier=lambda name: order.append("all here"))
    last = LastCheckpoint(tmp_path, every_n_train_steps=1)
    with pytest.raises(Stopped, match="told to"):
        last._end(SimpleNamespace(strategy=strategy), Stopped("told to", 130))
    assert order == ["written", "all here"]


def test_a_last_one_that_fails_ends_the_run_in_one_line(work, capsys, monkeypatch):
    monkeypatch.setattr(torch, "save", _fail)
    assert work.start("run", "--max_steps", "2", "--async_checkpoints") == 2
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert "cannot be written (No space left on device)" in line
    assert "saved" not in captured.out.replace("nothing is saved", "")


def test_weights_that_are_one_stay_one_and_kinds_are_kept():
    weight = torch.arange(6.0).reshape(2, 3)
    state = torch.nn.Linear(3, 2).state_dict()
    held = host_copy({"a": weight, "b": weight, "row": weight[0], "t": weight.T, "state": state})
    assert held["a"] is held["b"]
    assert held["a"].data_ptr() != weight.data_ptr()
    assert torch.equal(held["row"], weight[0])
    assert torch.equal(held["t"], weight.T)
    assert type(held["state"]) is type(state)
    assert held["state"]._metadata == state._metadata

"""Signals, the clock and faults: what is saved, and how the program ends."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from running import run_program

import main
from ldm.errors import UserError
from ldm.training.checkpoints import AtomicCheckpointIO, LastCheckpoint

TESTS = str(Path(__file__).resolve().parents[2])


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_ctrl_c_finishes_the_step_saves_and_says_how_to_continue(work, capsys, name, code):
    assert work.start("run", f"model.params.raise_signal={name}", "model.params.at=3") == code
    assert work.checkpoint("run")["global_step"] == 4
    out = capsys.readouterr().out
    assert f"stopped by {name}" in out
    assert f"--resume {work.run('run')} --train" in out


def test_two_processes_that_are_told_to_stop_in_the_middle_of_a_step_save_and_stop(work):
    """Lightning's own handler would wait for the other one, which is elsewhere, forever."""
    stop = ("model.params.raise_signal=SIGTERM", "model.params.at=3", "--async_checkpoints")
    base = ("-b", work.folder / "config.yaml", "-t", "-n", "run", "-l", work.folder, *stop)
    two = ("--accelerator", "cpu", "--devices", "2", "--num_sanity_val_steps", "0")
    code, out, err = run_program("main.py", *base, *two, cwd=work.folder, PYTHONPATH=TESTS)
    assert code == 143, err
    assert out.index("step 4: saved") < out.index("stopped by SIGTERM")
    assert work.checkpoint("run")["global_step"] == 4


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no SIGUSR1")
def test_sigusr1_saves_and_training_goes_on(work, capsys):
    assert work.start("run", "model.params.raise_signal=SIGUSR1", "model.params.at=1") == 0
    saved = [line for line in capsys.readouterr().out.splitlines() if "saved" in line]
    assert ["step 2:" in saved[0], "step 7:" in saved[1]] == [True, True]
    assert work.checkpoint("run")["global_step"] == 7


def test_a_system_without_sigusr1_listens_to_the_other_signals(tmp_path, monkeypatch):
    monkeypatch.delattr(signal, "SIGUSR1", raising=False)
    before = signal.getsignal(signal.SIGINT)
    with LastCheckpoint(tmp_path).listening():
        assert signal.getsignal(signal.SIGINT) != before


def test_the_old_signal_handlers_are_back_after_a_run(work):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert work.start("run", "--max_steps", "1") == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_time_limit_saves_and_ends_well_and_a_resumed_run_has_its_own(work, capsys):
    test_set = "data.params.test.target=training_parts.Pictures"
    assert work.start("run", "--max_time", "00:00:00:00", test_set) == 0
    assert "Test metric" not in capsys.readouterr().out
    assert work.checkpoint("run")["global_step"] == 1
    assert work.go_on("run", "--max_time", "00:01:00:00") == 0
    assert work.checkpoint("run")["global_step"] == 7


def test_last_ckpt_is_written_every_n_steps(work, capsys):
    assert work.start("run", "--checkpoint_every", "3") == 0
    saved = [line for line in capsys.readouterr().out.splitlines() if ": saved" in line]
    assert [line.split("step ")[1].split(":")[0] for line in saved] == ["3", "6", "7"]


def test_a_loss_that_is_no_number_ends_in_one_line_and_spares_the_last_checkpoint(work, capsys):
    more = ("model.params.failure=nan", "model.params.at=4", "--checkpoint_every", "3")
    assert work.start("run", *more) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "the loss is nan at step 4" in line
    assert "learning rate" in line
    saved = work.checkpoint("run")
    assert saved["global_step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in saved["state_dict"].values())


def test_the_real_error_of_a_failing_run_is_seen_and_its_work_saved(work):
    with pytest.raises(RuntimeError, match="a fault in the model"):
        work.start("run", "model.params.failure=error", "model.params.at=3")
    assert work.checkpoint("run")["global_step"] == 3


def test_a_failing_write_leaves_the_old_checkpoint_whole(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    class Unsavable:
        def __reduce__(self):
            raise OSError("disk full")

    with pytest.raises(UserError, match="disk full"):
        AtomicCheckpointIO().save_checkpoint({"step": Unsavable()}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_resuming_does_not_run_what_a_pickle_asks_for(work, tmp_path, capsys):
    assert work.start("run", "--max_steps", "1") == 0
    mark = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return Path.touch, (mark,)

    torch.save({"state_dict": Evil()}, work.run("run") / "checkpoints" / "last.ckpt")
    capsys.readouterr()
    assert work.go_on("run") == 2
    assert "asks to run pathlib.Path.touch" in capsys.readouterr().err
    assert not mark.exists()


def test_resuming_with_another_model_says_which_keys_do_not_fit(work, capsys):
    assert work.start("run", "--max_steps", "1") == 0
    path = work.run("run") / "checkpoints" / "last.ckpt"
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["weight.extra"] = saved["state_dict"].pop("weight.weight")
    torch.save(saved, path)
    capsys.readouterr()
    assert work.go_on("run") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "weight.extra" in line
    assert "weight.weight" in line


def test_an_interrupt_before_training_saves_nothing_and_says_so(monkeypatch, capsys):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "parse", interrupted)
    assert main.main([]) == 130
    assert "nothing was saved" in capsys.readouterr().err
    assert "Traceback" not in capsys.readouterr().err
    assert sys.exc_info() == (None, None, None)

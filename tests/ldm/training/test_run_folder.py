"""What a run leaves in its folder: configurations, checkpoints, pictures, figures."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tiny_model import CONFIG

from ldm.config import build, load_config
from ldm.errors import UserError
from ldm.training.images import ImageLogger
from ldm.training.metrics import MetricsFile


def test_the_folder_is_named_by_time_name_and_postfix(work):
    assert work.start("run", "--max_steps", "1", "--postfix", "_again") == 0
    (found,) = work.folder.glob("*_run_again")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d_run_again", found.name)
    assert {"checkpoints", "configs", "images", "metrics.csv"} <= {p.name for p in found.iterdir()}


def test_a_checkpoint_holds_the_models_own_keys_and_all_that_a_continuation_needs(work):
    assert work.start("run", "--max_steps", "2") == 0
    saved = work.checkpoint("run")
    assert sorted(saved["state_dict"]) == ["average", "weight.bias", "weight.weight"]
    assert saved["global_step"] == 2
    assert {"optimizer_states", "lr_schedulers", "callbacks", "loops"} <= set(saved)


def test_the_average_follows_each_optimizer_step_before_it_is_saved(work):
    """One step from an average of 1: it has moved a tenth of the way to the saved bias."""
    assert work.start("run", "--max_steps", "1") == 0
    state = work.checkpoint("run")["state_dict"]
    torch.testing.assert_close(state["average"], 0.9 + 0.1 * state["weight.bias"])


def test_the_average_moves_once_per_step_not_once_per_accumulated_batch(work):
    assert work.start("run", "--max_steps", "1", "--accumulate_grad_batches", "3") == 0
    state = work.checkpoint("run")["state_dict"]
    torch.testing.assert_close(state["average"], 0.9 + 0.1 * state["weight.bias"])


def test_the_merged_configuration_is_saved_with_flags_and_overrides(work):
    assert work.start("run", "--max_steps", "1", "data.params.batch_size=2") == 0
    config = load_config(*sorted((work.run("run") / "configs").glob("*.yaml")))
    assert config.data.params.batch_size == 2
    assert config.lightning.trainer.max_steps == 1
    assert config.model.target == "training_parts.Denoiser"


def test_the_best_checkpoints_are_kept_by_the_models_monitor(work):
    assert work.start("run", "--val_check_interval", "1") == 0
    kept = sorted(p.name for p in (work.run("run") / "checkpoints").glob("epoch*.ckpt"))
    figures = {step: float(v) for step, v in work.figures("run", "val/loss").items()}
    assert len(kept) == 3
    best = sorted(sorted(figures, key=figures.get)[:3])
    # The figure after step n is logged beside the training figures of that step, row n - 1.
    assert [int(re.search(r"step=(\d+)", name)[1]) - 1 for name in kept] == best


def test_pictures_of_both_sets_are_saved_with_the_references_names(work):
    more = ("lightning.callbacks.image_logger.params.disabled=false", "--max_steps", "5")
    assert work.start("run", *more) == 0
    images = work.run("run") / "images"
    names = sorted(p.name for p in (images / "train").glob("inputs*"))
    assert names == [
        "inputs_gs-000001_e-000000_b-000000.png",
        "inputs_gs-000002_e-000000_b-000001.png",
        "inputs_gs-000004_e-000001_b-000000.png",
    ]
    assert [p.name for p in (images / "val").glob("inputs*")] == [
        "inputs_gs-000005_e-000001_b-000000.png"
    ]
    with Image.open(images / "train" / names[0]) as picture:
        assert picture.size == (4 * 18 + 2, 18 + 2)


def test_the_noise_of_logged_pictures_is_the_same_each_time(work):
    more = ("lightning.callbacks.image_logger.params.disabled=false", "--val_check_interval", "1")
    assert work.start("run", *more, "--max_steps", "3") == 0
    noisy = sorted((work.run("run") / "images" / "val").glob("noisy*"))
    first, *others = (np.asarray(Image.open(path)) for path in noisy)
    assert len(others) == 2
    assert all((other == first).all() for other in others)


@pytest.mark.parametrize(("value", "byte"), [(-1.0, 0), (0.0, 127), (1.0, 255), (3.0, 255)])
def test_a_grid_maps_the_model_range_to_bytes_and_clamps(value, byte):
    grid = ImageLogger(max_images=2)._grid(torch.full((5, 3, 4, 4), value))
    assert grid.shape == (4 + 4, 2 * 6 + 2, 3)
    assert (grid[2:6, 2:6] == byte).all()


def test_metrics_of_a_resumed_run_replace_the_rows_it_repeats(tmp_path):
    first = MetricsFile(tmp_path)
    for step in range(4):
        first.log_metrics({"loss": step}, step)
    again = MetricsFile(tmp_path)
    again.forget_from(2)
    again.log_metrics({"loss": 20, "new": 1}, 2)
    text = (tmp_path / "metrics.csv").read_text(encoding="utf-8").split()
    assert text == ["step,loss,new", "0,0,", "1,1,", "2,20,1"]


def test_metrics_of_a_test_leave_the_trainings_rows(tmp_path):
    MetricsFile(tmp_path).log_metrics({"loss": 3}, 3)
    MetricsFile(tmp_path).log_metrics({"test": 1}, 0)
    text = (tmp_path / "metrics.csv").read_text(encoding="utf-8").split()
    assert text == ["step,loss,test", "3,3,", "0,,1"]


def test_a_line_on_the_console_tells_loss_speed_and_time_left(work, capsys):
    assert work.start("run", "--progress_every", "3") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " steps/s" in line]
    assert [re.search(r"step (\d+/\d+)", line)[1] for line in lines] == ["3/7", "6/7", "7/7"]
    assert all(word in lines[0] for word in ("epoch", "loss", "samples/s", "lr", "elapsed", "left"))


def test_unknown_arguments_of_log_images_are_told_before_training_begins(caplog):
    with torch.device("meta"):
        model = build(OmegaConf.create(CONFIG))
    ImageLogger(log_images_kwargs={"ddim_steps": 3}).on_fit_start(None, model)
    assert not caplog.records
    unknown = ImageLogger(log_images_kwargs={"ddim_stps": 3})
    unknown.on_fit_start(None, model)  # forks pass arguments of their own
    assert "ddim_stps" in caplog.text and "ddim_steps" in caplog.text
    model.log_images = lambda batch, N=8: {}
    with pytest.raises(UserError, match="ddim_stps.*takes N"):
        unknown.on_fit_start(None, model)


def test_a_picture_every_zero_steps_is_refused():
    with pytest.raises(UserError, match="1 or more"):
        ImageLogger(batch_frequency=0)

"""A run that was interrupted and resumed is the run that never was: to the last bit."""

from __future__ import annotations

import copy
import math

import pytest
import yaml
from tiny_training import TINY_AUTOENCODER, TINY_DIFFUSION, assert_same_run

import main


# A pass over the data is three batches, the last one short; validation comes after five.
@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6], ids=lambda n: f"after_{n}_steps")
def test_a_resumed_run_has_the_losses_and_weights_of_an_uninterrupted_one(work, stop):
    assert work.start("whole") == 0
    assert work.start("halves", "--max_steps", str(stop)) == 0
    assert work.go_on("halves", "--max_steps", "7") == 0
    assert len(work.figures("whole", "train/loss")) == 7
    assert_same_run(work, "whole", "halves", "train/loss")


def test_a_resumed_run_is_the_same_while_gradients_are_accumulated(work):
    more = ("--accumulate_grad_batches", "2")
    assert work.start("whole", *more) == 0
    assert work.start("halves", "--max_steps", "3", *more) == 0
    assert work.go_on("halves", "--max_steps", "7") == 0
    assert_same_run(work, "whole", "halves", "train/loss")


def test_a_run_resumed_by_epochs_is_the_same(work):
    assert work.start("whole", "--max_steps", "-1", "--max_epochs", "3") == 0
    assert work.start("halves", "--max_steps", "-1", "--max_epochs", "1") == 0
    assert work.go_on("halves", "--max_epochs", "3") == 0
    assert_same_run(work, "whole", "halves", "train/loss")


def test_a_run_stopped_inside_a_validation_resumes_the_same(work):
    assert work.start("whole") == 0
    stop = ("model.params.raise_signal=SIGTERM", "model.params.in_validation=true")
    assert work.start("halves", *stop, "model.params.at=3") == 143
    assert work.checkpoint("halves")["global_step"] == 5
    assert work.go_on("halves", "model.params.raise_signal=null") == 0
    assert_same_run(work, "whole", "halves", "train/loss")


def test_an_autoencoder_with_dropout_and_a_schedule_resumes_the_same(work):
    work.write({**_denoiser_config(work), "model": TINY_AUTOENCODER})
    assert work.start("whole") == 0
    assert work.start("halves", "--max_steps", "4") == 0
    assert work.go_on("halves", "--max_steps", "7") == 0
    assert_same_run(work, "whole", "halves", "train/rec_loss")


def test_a_diffusion_model_with_its_average_and_text_encoder_resumes_the_same(work):
    """Noise, timesteps, dropped captions, EMA and the measured scale of the latents included."""
    work.write({**_denoiser_config(work), "model": TINY_DIFFUSION})
    assert work.start("whole", "--max_steps", "6") == 0
    assert work.start("halves", "--max_steps", "2") == 0
    assert work.go_on("halves", "--max_steps", "6") == 0
    assert_same_run(work, "whole", "halves", "train/loss_simple_step")
    state = work.checkpoint("whole")["state_dict"]
    parts = {"model", "model_ema", "first_stage_model", "cond_stage_model", "betas", "scale_factor"}
    assert parts <= {key.split(".")[0] for key in state}
    assert float(state["scale_factor"]) != 1.0
    assert int(state["model_ema.num_updates"]) == 6


@pytest.mark.parametrize("workers", [0, 1])
def test_random_crops_and_flips_of_a_resumed_run_are_the_same(work, workers):
    more = ("data.params.train.params.augment=true", f"data.params.num_workers={workers}")
    assert work.start("whole", *more) == 0
    assert work.start("halves", "--max_steps", "4", *more) == 0
    assert work.go_on("halves", "--max_steps", "7") == 0
    assert_same_run(work, "whole", "halves", "train/loss")
    figures = work.figures("whole", "train/loss")
    assert work.start("plain") == 0
    assert figures != work.figures("plain", "train/loss")


def test_the_data_goes_on_with_new_pictures_not_from_the_beginning(work):
    """Two runs of half the length see what one long run sees; none is a repetition."""
    assert work.start("halves", "--max_steps", "2") == 0
    seen = work.checkpoint("halves")["training_progress"]
    assert seen == {"batches_done": 2, "samples_done": 8, "seed": 23}
    assert work.go_on("halves", "--max_steps", "3") == 0
    assert work.checkpoint("halves")["training_progress"]["samples_done"] == 10


def test_image_logging_and_validation_leave_the_training_as_it_is(work):
    assert work.start("plain", "--limit_val_batches", "0") == 0
    pictures = "lightning.callbacks.image_logger.params.disabled=false"
    assert work.start("watched", pictures, "--val_check_interval", "2") == 0
    assert work.figures("plain", "train/loss") == work.figures("watched", "train/loss")
    assert list(work.run("watched").glob("images/train/*.png"))


def test_another_seed_is_another_run(work):
    assert work.start("one", "--max_steps", "2") == 0
    assert work.start("two", "--max_steps", "2", "--seed", "24") == 0
    assert work.figures("one", "train/loss") != work.figures("two", "train/loss")


def test_a_checkpoint_file_can_be_resumed_by_its_path(work):
    assert work.start("run", "--max_steps", "2") == 0
    path = work.run("run") / "checkpoints" / "last.ckpt"
    assert main.main(["-r", str(path), "-t", "--max_steps", "4"]) == 0
    assert work.checkpoint("run")["global_step"] == 4


def test_the_schedule_follows_a_longer_continuation(work):
    """References in the saved configuration are kept, so max_steps moves the schedule too."""
    config = _denoiser_config(work)
    config["model"] = copy.deepcopy(TINY_AUTOENCODER)
    params = config["model"]["params"]["scheduler_config"]["params"]
    params["max_decay_steps"] = "${lightning.trainer.max_steps}"
    work.write(config)
    assert work.start("run", "--max_steps", "3") == 0
    assert work.go_on("run", "--max_steps", "5") == 0
    rates = list(map(float, work.figures("run", "lr-Adam").values()))
    # Base rate 5e-4 x batch size 4. Two steps of rise and three of fall: step 4 has fallen 2/3 of
    # the half cosine from 1 to 0.1. With the old length the last two would be at the bottom.
    assert len(rates) == 5
    assert rates[-1] == pytest.approx(2e-3 * (0.1 + 0.45 * (1 + math.cos(math.pi * 2 / 3))))


def _denoiser_config(work) -> dict:
    return yaml.safe_load((work.folder / "config.yaml").read_text(encoding="utf-8"))

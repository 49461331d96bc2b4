"""Dreambooth's kind of fork: two batches a step, through the hub's own chain."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from descendants.exercise import (
    assert_pictures,
    batch_of,
    build_hub,
    changed,
    drawn,
    fit,
    hub_config,
    items,
    weights_of,
)
from descendants.forks.dreambooth import Pairs
from torch.utils.data import DataLoader

SCHEDULE = {
    "target": "ldm.lr_scheduler.LambdaLinearScheduler",
    "params": {
        "warm_up_steps": [2],
        "cycle_lengths": [100],
        "f_start": [0.5],
        "f_max": [1.0],
        "f_min": [1.0],
    },
}


def config(**changes):
    return hub_config("descendants.forks.dreambooth.DreamboothLDM", **changes)


def pairs(count=4):
    return Pairs(items(count, seed=1), items(3, seed=2))


def test_the_input_of_a_batch_of_two_is_its_latents_and_its_conditioning():
    model = build_hub(config()).eval()
    z, c = model.get_input(batch_of(items(2)), "jpg")
    assert z.shape == (2, 4, 8, 8)
    assert torch.equal(
        c, model.get_learned_conditioning(["a photo of * number 0", "a photo of * number 1"])
    )


def test_both_batches_are_trained_on_and_the_figures_are_the_forks():
    model = build_hub(config(use_ema=True, scheduler_config=SCHEDULE))
    before, averages = weights_of(model.model), weights_of(model.model_ema)
    trainer = fit(model, pairs())
    figures = set(trainer.callback_metrics)
    assert {"train/loss_simple", "train/loss_vlb", "train/loss", "train/prior"} <= figures
    assert trainer.logged_metrics["global_step"] == 1
    assert trainer.logged_metrics["lr_abs"] == pytest.approx(0.75e-3)
    assert changed(model.model, before)
    assert changed(model.model_ema, averages)
    assert int(model.model_ema.num_updates) == 2


def test_the_second_batch_weighs_in_the_gradient():
    def weights(share):
        torch.manual_seed(0)
        model = build_hub(config(reg_weight=share))
        fit(model, pairs(2), steps=1)
        return model.model

    assert changed(weights(0.0), weights_of(weights(1.0)))


def test_validation_logs_the_averages_under_the_references_names():
    model = build_hub(config(use_ema=True))
    loader = DataLoader(pairs(), batch_size=2)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", devices=1, enable_checkpointing=False, **quiet)
    (figures,) = trainer.validate(model, loader, verbose=False)
    assert {"val/loss_simple", "val/loss_simple_ema", "val/loss", "val/loss_ema"} <= set(figures)


def test_it_samples_and_shows_the_subject():
    model = build_hub(config()).eval()
    batch = batch_of(pairs(2))
    z, c = model.get_input(batch[0], "jpg")
    assert drawn(model, c).shape == z.shape
    log = model.log_images(batch, N=2, ddim_steps=2, plot_progressive_rows=False)
    assert_pictures(log, "inputs", "reconstruction", "conditioning", "diffusion_row", "samples")
    assert torch.equal(log["inputs"], batch[0]["jpg"].permute(0, 3, 1, 2))

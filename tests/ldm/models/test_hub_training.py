"""The hubs under a plain Trainer: what any LightningModule can do, under the reference's names."""

from __future__ import annotations

import copy

import pytest
import pytorch_lightning as pl
import torch
from small_hubs import (
    ADVERSARY,
    DDCONFIG,
    PARAMS,
    TEXT,
    WARM_UP,
    contrastive,
    fit,
    gaussian,
    latent,
    loader,
    pixels,
    quantized,
)
from torch.utils.data import DataLoader
from training_parts import Pictures

from ldm.errors import UserError
from ldm.models.autoencoder import AutoencoderKL
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.hub_training import batch_size_of

PARTS = ("loss_simple", "loss_vlb", "loss")
SIDES = ("total_loss", "rec_loss", "disc_loss")
FIGURES = {
    latent: [
        *(f"train/{part}" for part in PARTS),
        *(f"val/{part}" for part in PARTS),
        *(f"val/{part}_ema" for part in PARTS),
        "global_step",
    ],
    pixels: ["train/loss_simple", "val/loss_simple", "val/loss_simple_ema", "global_step"],
    gaussian: [
        *(f"{split}/{side}" for split in ("train", "val") for side in SIDES),
        "aeloss",
        "discloss",
    ],
    quantized: [
        *(f"{split}/{side}" for split in ("train", "val", "val_ema") for side in SIDES),
        "val/aeloss",
    ],
    contrastive: ["train/loss", "train/accuracy", "val/loss", "val/accuracy"],
}


@pytest.mark.parametrize("make", FIGURES, ids=lambda make: make.__name__)
def test_a_plain_trainer_fits_every_model_as_it_is_and_logs_the_references_names(make):
    model = make()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = fit(model, validate=True)
    assert set(FIGURES[make]) <= set(trainer.callback_metrics)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert model.trainer is trainer
    assert (model.global_step, model.device.type) == (2, "cpu")


def test_position_and_device_are_there_before_a_trainer_is_and_follow_it_after():
    model = latent()
    assert (model.global_step, model.current_epoch, model.device.type) == (0, 0, "cpu")
    assert model.logger is None
    fit(model, steps=4)  # of two batches an epoch
    assert (model.global_step, model.current_epoch) == (4, 2)


def test_a_schedule_moves_the_rate_each_step_and_it_is_logged():
    assert not latent().use_scheduler
    model, rates = latent(scheduler_config=WARM_UP), []
    assert model.use_scheduler
    model.learning_rate = 1e-2

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            rates.append(float(trainer.callback_metrics["lr_abs"]))

    fit(model, steps=4, callbacks=[Watch()])
    assert rates == pytest.approx([0.0, 0.25e-2, 0.5e-2, 0.75e-2])


def test_figures_of_steps_are_of_the_step_and_those_of_validation_of_the_set():
    model, seen = latent(), []
    figures = model.validation_figures
    model.validation_figures = lambda batch: seen.append(figures(batch)) or seen[-1]
    trainer = fit(model, validate=True, num_sanity_val_steps=0, steps=1, val_check_interval=1)
    mean = torch.stack([each["val/loss_simple"] for each in seen]).mean()
    torch.testing.assert_close(trainer.callback_metrics["val/loss_simple"], mean)
    assert len(seen) == 2


@pytest.mark.parametrize("make", [latent, quantized])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_averages_move_once_a_step_however_many_batches_it_takes(make, accumulated):
    model, setting = make(), {"accumulate_grad_batches": accumulated}
    if make is quantized:
        model.accumulated_batches, setting = accumulated, {}
    fit(model, loader(8), steps=2, **setting)
    assert int(model.model_ema.num_updates) == 2


def test_the_scale_is_set_by_the_first_batch_alone():
    model = latent(scale_by_std=True, scale_factor=1.0)
    batches = loader()
    first = next(iter(batches))
    fit(model, batches)
    scale = float(model.scale_factor)
    assert scale != 1.0
    torch.manual_seed(0)
    z = model.get_first_stage_encoding(model.encode_first_stage(first["jpg"].permute(0, 3, 1, 2)))
    assert float(z.std()) == pytest.approx(1.0, abs=0.2)
    model.on_train_batch_start(first, 0)  # a Trainer that goes on from step 2
    assert float(model.scale_factor) == scale


@pytest.mark.parametrize("named", [True, False])
def test_a_forks_training_step_with_an_optimizers_number_is_called_for_each_side(named):
    calls = []

    class Fork(AutoencoderKL):
        def training_step(self, batch, batch_idx, optimizer_idx):
            calls.append(optimizer_idx)
            if named:
                return super().training_step(batch, batch_idx, optimizer_idx=optimizer_idx)
            return super().training_step(batch, batch_idx, optimizer_idx)

    loss = {"target": "ldm.modules.losses.LPIPSWithDiscriminator", "params": ADVERSARY}
    model = Fork(DDCONFIG, loss, embed_dim=4, image_key="jpg")
    model.learning_rate = 1e-3
    assert model.training_step(next(iter(loader())), 0, 1).ndim == 0  # in a loop of one's own
    calls.clear()
    before = model.loss.discriminator.main[0].weight.detach().clone()
    trainer = fit(model)
    assert calls == [0, 1, 0, 1]
    assert trainer.global_step == 2
    assert not torch.equal(before, model.loss.discriminator.main[0].weight)


def test_a_forks_step_that_returns_its_own_loss_is_minimised_and_may_log_by_itself():
    class Fork(LatentDiffusion):
        def training_step(self, batch, batch_idx):
            loss, figures = self.shared_step(batch)
            self.log_dict(figures, prog_bar=True, logger=True, on_step=True, on_epoch=True)
            self.log("mine", 3.0)
            return 0.0 * loss

    model = Fork(**{**copy.deepcopy(PARAMS), "use_ema": False})
    before = copy.deepcopy(model.state_dict())
    trainer = fit(model)
    assert trainer.callback_metrics["mine"] == 3.0
    assert "train/loss_simple_epoch" in trainer.callback_metrics
    weights = model.model.diffusion_model.out[2].weight
    # AdamW's decay alone moves it, and a zero weight not at all.
    assert torch.equal(weights, before["model.diffusion_model.out.2.weight"])


def test_a_conditioner_that_learns_encodes_in_forward_and_gets_its_gradient():
    text = {**TEXT, "params": {**TEXT["params"], "trainable": True}}
    model = latent(cond_stage_config=text, cond_stage_trainable=True)
    _, c = model.get_input(next(iter(loader())), "jpg")
    assert c == ["ramp 0", "ramp 1"]
    _, c = model.get_input(next(iter(loader())), "jpg", force_c_encode=True)
    assert c.shape == (2, 77, 32)
    torch.nn.init.normal_(model.model.diffusion_model.out[2].weight, std=0.02)
    before = copy.deepcopy(model.cond_stage_model.state_dict())
    fit(model, steps=3)
    after = model.cond_stage_model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("trainable", [True, False])
def test_what_was_encoded_before_trains_all_but_a_conditioner_that_is_to_learn(trainable):
    text = {**TEXT, "params": {**TEXT["params"], "trainable": True}}
    model = latent(cond_stage_config=text, cond_stage_trainable=trainable)
    encoded = [
        {**item, "txt_embedding": torch.zeros(77, 32)}
        for item in map(Pictures(4).__getitem__, range(4))
    ]
    batches = DataLoader(encoded, batch_size=2)
    if not trainable:
        assert fit(model, batches).global_step == 2
        return
    with pytest.raises(UserError, match="txt_embedding.*cannot learn from that"):
        fit(model, batches)


def test_conditioning_is_noised_by_its_shorter_schedule_while_training(monkeypatch):
    unet = copy.deepcopy(PARAMS["unet_config"])
    unet["params"] |= {"in_channels": 8, "context_dim": None, "use_spatial_transformer": False}
    model = latent(
        unet_config=unet,
        conditioning_key="concat",
        cond_stage_key="jpg",
        cond_stage_config="__is_first_stage__",
        num_timesteps_cond=4,
    )
    seen = []
    noised = model.noised_conditioning
    monkeypatch.setattr(
        model, "noised_conditioning", lambda c, t: seen.append((c, noised(c, t))) or seen[-1][1]
    )
    trainer = fit(model)
    assert len(seen) == 2
    assert all(not torch.equal(clean, noisy) for clean, noisy in seen)
    assert trainer.callback_metrics["train/loss_simple"].isfinite()


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        ({"jpg": torch.zeros(3, 2), "txt": ["a", "b", "c"]}, 3),
        ({"number": torch.tensor(1.0), "jpg": torch.zeros(3, 2)}, 3),
        ([torch.zeros(5), torch.zeros(5)], 2),
        (torch.zeros(4, 1), 4),
        (torch.tensor(1.0), 1),
        ({}, 1),
        (None, 1),
    ],
)
def test_a_batch_is_counted_by_its_items(batch, size):
    assert batch_size_of(batch) == size


def test_without_a_trainer_a_step_returns_its_loss_and_logs_nothing():
    model = latent()
    batch = next(iter(loader()))
    assert model.training_step(batch, 0).requires_grad
    model.eval()
    model.validation_step(batch, 0)
    updates = int(model.model_ema.num_updates)
    model.on_train_batch_end(None, batch, 0)  # a loop of one's own, as the reference's hook
    assert int(model.model_ema.num_updates) == updates + 1


@pytest.mark.parametrize("make", [latent, pixels])
def test_log_variances_weigh_the_loss_in_latents_alone_as_in_the_reference(make):
    batch = next(iter(loader()))

    def loss_of(value):
        model = make(logvar_init=value)
        torch.manual_seed(0)
        return model.load_state_dict(weights) and float(model.training_step(batch, 0))

    weights = make().state_dict()
    assert (loss_of(1.0) == loss_of(0.0)) == (make is pixels)


def test_a_hub_has_the_reference_s_attributes_that_forks_read():
    model = latent(linear_start=0.001, linear_end=0.01)
    assert (model.linear_start, model.linear_end) == (0.001, 0.01)
    assert model.num_downs == len(DDCONFIG["ch_mult"]) - 1
    assert latent(first_stage_config={"target": "torch.nn.Identity"}).num_downs == 0
    assert pixels().cond_stage_model is None


@pytest.mark.parametrize("what", ["none", "learning"])
def test_a_fork_may_have_no_first_stage_or_one_that_learns(what):
    class Fork(LatentDiffusion):
        def instantiate_first_stage(self, config):
            super().instantiate_first_stage(config)
            if what == "none":
                self.first_stage_model = None
            else:
                self.first_stage_model.requires_grad_(True)

    model = Fork(**copy.deepcopy(PARAMS)).train()
    assert what == "none" or model.first_stage_model.training
    assert not latent().train().first_stage_model.training
    assert not latent().train().cond_stage_model.training


def test_steps_are_logged_with_their_mean_over_the_epoch_as_the_reference_logs_them():
    logged = {make: set(fit(make(), steps=2).logged_metrics) for make in (latent, pixels)}
    for names in logged.values():
        assert {"train/loss_simple_step", "train/loss_simple_epoch", "global_step"} <= names
    names = set(fit(quantized()).logged_metrics)
    assert {"train/rec_loss_step", "train/disc_loss_epoch"} <= names
    assert not {"aeloss", "aeloss_step"} & names
    names = set(fit(gaussian()).logged_metrics)
    assert {"aeloss_step", "discloss_epoch", "train/rec_loss"} <= names
    assert "train/rec_loss_step" not in names


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (latent, "test/loss_simple_ema"),
        (pixels, "test/loss_simple"),
        (gaussian, "test/rec_loss"),
        (quantized, "test_ema/rec_loss"),
        (contrastive, "test/loss"),
    ],
)
def test_a_test_set_is_logged_under_its_own_name(make, named):
    options = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = pl.Trainer(accelerator="cpu", devices=1, **dict.fromkeys(options, False))
    (figures,) = trainer.test(make(), loader(), verbose=False)
    assert named in figures and not any(name.startswith("val") for name in figures)

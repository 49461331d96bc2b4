"""The averages of a hub's weights move once for each optimizer step, whoever takes it."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from small_hubs import fit, latent, loader, quantized

from ldm.models.hub_training import HubTraining
from ldm.training.exactness import ExactBatches


class Counted(HubTraining):
    """Fits a line; notes after how many steps its averages moved."""

    def __init__(self):
        super().__init__()
        self.layer, self.moved_at = torch.nn.Linear(1, 1), []

    def training_step(self, batch, _):
        return self.layer(batch["jpg"].mean((1, 2, 3))[:, None]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def move_averages(self):
        self.moved_at.append(self.layer.bias.item())


class OwnStep(Counted):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer.step(closure=optimizer_closure)


class ByHand(Counted):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class EverySecondByHand(ByHand):
    def training_step(self, batch, batch_idx):
        if batch_idx % 2:
            super().training_step(batch, batch_idx)


class SuperStep(Counted):
    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)


class OwnBatchEnd(Counted):
    def on_train_batch_end(self, *args, **kwargs):
        pass


WAYS = [Counted, OwnStep, ByHand, EverySecondByHand, SuperStep, OwnBatchEnd]


@pytest.mark.parametrize("cls", WAYS)
@pytest.mark.parametrize("fits", [1, 2])
def test_averages_move_once_after_every_step(cls, fits):
    model = cls()
    for number in range(1, fits + 1):
        fit(model, loader(8), steps=number)
    assert len(model.moved_at) == (1 if fits == 1 else 3)
    assert len(set(model.moved_at)) == len(model.moved_at), "it moved without a step"
    assert model.moved_at[-1] == model.layer.bias.item()


@pytest.mark.parametrize("cls", [Counted, OwnStep])
def test_averages_move_once_a_step_of_several_batches(cls):
    model = cls()
    fit(model, loader(8), steps=2, accumulate_grad_batches=2)
    assert len(model.moved_at) == 2


@pytest.mark.parametrize("cls", WAYS)
def test_a_resumed_run_owes_no_move(cls, tmp_path):
    first = cls()
    trainer = fit(first, loader(8), steps=2)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    model = cls()
    again = pl.Trainer(
        accelerator="cpu", max_steps=4, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    again.fit(model, loader(8), ckpt_path=tmp_path / "last.ckpt")
    assert len(model.moved_at) == again.global_step - 2 == 2


@pytest.mark.parametrize("cls", WAYS)
def test_callbacks_of_a_run_of_ours_save_averages_that_have_moved(cls):
    moves = []

    class Saving(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            moves.append(len(pl_module.moved_at))

    fit(cls(), loader(8), steps=2, callbacks=[ExactBatches(), Saving()])
    assert sorted(set(moves) - {0}) == [1, 2]
    assert moves[-1] == 2


@pytest.mark.parametrize("make", [latent, quantized])
def test_a_hub_that_steps_by_hand_moves_its_averages(make):
    class Hub(type(make())):
        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer = optimizer[0] if isinstance(optimizer, list) else optimizer
            loss = self.layer_loss()
            self.manual_backward(loss)
            optimizer.step()

        def layer_loss(self):
            return sum(p.square().sum() for p in self.parameters() if p.requires_grad)

    model = make()
    model.__class__ = Hub
    model.automatic_optimization = False
    fit(model)
    assert int(model.model_ema.num_updates) == 2

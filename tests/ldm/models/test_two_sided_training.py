"""A model with two optimizers: its schedules, its count of steps, and who does the steps."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from small_hubs import ADVERSARY, DDCONFIG, fit, gaussian, loader, quantized
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

from ldm.errors import UserError
from ldm.models.autoencoder import AutoencoderKL
from ldm.models.two_sided_training import TwoSidedTraining, schedules_in

ADVERSARIAL = {"target": "ldm.modules.losses.LPIPSWithDiscriminator", "params": ADVERSARY}


class Duel(TwoSidedTraining):
    """Two weights, each pulled at by a loss of its own; notes the first one's rates."""

    def __init__(self, **schedule):
        super().__init__()
        self.maker, self.judge = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        self.schedule, self.rates = schedule, []

    def training_step(self, batch, batch_idx, optimizer_idx):
        if optimizer_idx == 0:
            self.rates.append(self.optimizers()[0].param_groups[0]["lr"])
        side = (self.maker, self.judge)[optimizer_idx]
        return side(batch["jpg"].mean((1, 2, 3))[:, None]).square().mean()

    def validation_figures(self, batch):
        return {"val/level": torch.tensor(1.0)}

    def configure_optimizers(self):
        optimizers = [torch.optim.SGD(p.parameters(), lr=1.0) for p in (self.maker, self.judge)]
        halves = [StepLR(optimizer, step_size=1, gamma=0.5) for optimizer in optimizers]
        return optimizers, [{"scheduler": half, **self.schedule} for half in halves]


def rates_of(model, steps=8, **settings):
    fit(model, loader(8), steps=steps, **settings)  # four batches an epoch
    return model.rates


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"interval": "step"}, [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128]),
        ({"interval": "step", "frequency": 2}, [1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 8, 1 / 8]),
        ({"interval": "epoch"}, [1] * 4 + [1 / 2] * 4),
        ({}, [1] * 4 + [1 / 2] * 4),
        ({"interval": "epoch", "frequency": 2}, [1] * 8),
    ],
)
def test_schedules_step_at_their_interval_as_lightning_s_do(schedule, expected):
    assert rates_of(Duel(**schedule)) == expected

    class One(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.rates = torch.nn.Linear(1, 1), []

        def training_step(self, batch, batch_idx):
            self.rates.append(self.optimizers().param_groups[0]["lr"])
            return self.layer(batch["jpg"].mean((1, 2, 3))[:, None]).square().mean()

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            half = StepLR(optimizer, step_size=1, gamma=0.5)
            return [optimizer], [{"scheduler": half, **schedule}]

    assert rates_of(One()) == expected


def test_a_schedule_that_follows_a_figure_steps_after_validation():
    class Following(Duel):
        def configure_optimizers(self):
            optimizers, _ = super().configure_optimizers()
            follow = [ReduceLROnPlateau(o, factor=0.5, patience=0) for o in optimizers]
            return optimizers, [{"scheduler": f, "monitor": "val/level"} for f in follow]

    model = Following()
    # The first epoch sets the level, the second does not improve it, so the third has half.
    assert rates_of(model, steps=12, validate=True) == [1] * 8 + [1 / 2] * 4
    with pytest.raises(UserError, match="follows 'val/level', which is not logged"):
        rates_of(Following())


def test_a_mixin_s_schedules_and_step_are_found_too():
    class Slow:
        def configure_optimizers(self):
            optimizers, schedules = super().configure_optimizers()
            return optimizers, [{**each, "interval": "epoch"} for each in schedules]

        def training_step(self, batch, batch_idx, optimizer_idx):
            return 0.0 * super().training_step(batch, batch_idx, optimizer_idx)

    class Mixed(Slow, Duel):
        pass

    model = Mixed(interval="step")
    before = model.judge.weight.detach().clone()
    assert rates_of(model) == [1] * 4 + [1 / 2] * 4
    assert torch.equal(model.judge.weight, before)


def test_every_form_in_which_schedules_are_returned_is_read():
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1.0)
    schedule = LambdaLR(optimizer, lambda step: 1.0)
    each_step = {"scheduler": schedule, "interval": "step", "name": "rate", "unknown": 1}
    forms = {
        "none": optimizer,
        "several": [optimizer, optimizer],
        "pair": ([optimizer], [each_step]),
        "list of lists": [[optimizer], [schedule]],
        "not in a list": ([optimizer], schedule),
        "dict": {"optimizer": optimizer, "lr_scheduler": each_step},
        "dicts": [{"optimizer": optimizer, "lr_scheduler": schedule}, {"optimizer": optimizer}],
    }
    found = {form: [s.interval for s in schedules_in(given)] for form, given in forms.items()}
    assert found == {
        "none": [],
        "several": [],
        "pair": ["step"],
        "list of lists": ["epoch"],
        "not in a list": ["epoch"],
        "dict": ["step"],
        "dicts": ["epoch"],
    }
    assert all(s.scheduler is schedule for given in forms.values() for s in schedules_in(given))


@pytest.mark.parametrize("make", [gaussian, quantized])
def test_steps_are_counted_from_the_beginning_of_each_fit(make):
    """What begins at a step, as a discriminator does, begins there in every fit."""
    model, seen = make(), []
    model.on_load_checkpoint({"global_step": 50})  # as load_from_checkpoint calls it
    assert model.steps_done == 50

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.append(pl_module.steps_done)

    fit(model, callbacks=[Watch()])
    assert seen == [0, 1]


def test_a_subclass_may_step_by_hand_as_any_lightning_module():
    class Fork(AutoencoderKL):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.automatic_optimization = False
            self.done = 0

        def training_step(self, batch, batch_idx):
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                reconstruction, _ = self(self.get_input(batch, self.image_key))
                self.manual_backward(reconstruction.square().mean())
                optimizer.step()
            self.done += 1

    model = Fork(DDCONFIG, ADVERSARIAL, embed_dim=4, image_key="jpg")
    assert model.automatic_optimization is False
    fit(model)
    assert model.done == 1, "each side's step counts: two are done after one batch"
    model.automatic_optimization = True
    assert model.automatic_optimization is True

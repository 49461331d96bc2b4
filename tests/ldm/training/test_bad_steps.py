"""Steps with a loss that is no number, or leaps, leave no trace but a line and a count."""

from __future__ import annotations

import math
import sys

import pytest
import pytorch_lightning as pl
import torch
from preloaded import run_main
from pytorch_lightning.plugins.precision import MixedPrecision
from small_hubs import fit, latent
from tiny_training import assert_same_run
from torch import nn
from torch.utils.data import DataLoader

from ldm.errors import UserError
from ldm.training.bad_steps import SkipBadSteps

ON = "lightning.callbacks.bad_steps.target=ldm.training.bad_steps.SkipBadSteps"
OF = "lightning.callbacks.bad_steps.params"
STUMBLING = "model.target=training_parts.Stumbling"
FORK = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")


def weights(work, name: str) -> dict:
    state = work.checkpoint(name)["state_dict"]
    return {key: value for key, value in state.items() if key.startswith("weight.")}


def moments(work, name: str) -> list:
    """Return AdamW's averages; its states of all weights."""
    return list(work.checkpoint(name)["optimizer_states"][0]["state"].values())


def test_a_step_without_a_number_for_a_loss_changes_nothing_and_is_told(work, capsys):
    assert work.start("three", "--max_steps", "3") == 0
    capsys.readouterr()
    assert work.start("four", ON, STUMBLING, "model.params.bad=[3]", "--max_steps", "4") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert "step 3 is left out: the loss is nan; samples 10 to 13 of the run" in line
    assert "1 in a row, 1 in all" in line
    assert work.checkpoint("four")["global_step"] == 4
    torch.testing.assert_close(weights(work, "four"), weights(work, "three"), rtol=0, atol=0)
    torch.testing.assert_close(moments(work, "four"), moments(work, "three"), rtol=0, atol=0)


@pytest.mark.parametrize("bad", [2, 3])
def test_one_bad_batch_leaves_out_the_whole_accumulated_step(work, capsys, bad):
    more = (STUMBLING, "--accumulate_grad_batches", "2", "data.params.train.params.length=16")
    assert work.start("one", *more, "--max_steps", "1") == 0
    assert work.start("two", ON, *more, f"model.params.bad=[{bad}]", "--max_steps", "2") == 0
    assert "samples 8 to 15 of the run" in capsys.readouterr().out
    torch.testing.assert_close(weights(work, "two"), weights(work, "one"), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("bad", "limit", "told", "saved"),
    [
        ("[4,5]", "in_a_row=2", "left out, 2 in a row and 2 in all, step 5 because", 3),
        ("[1,4]", "in_total=2", "left out, 1 in a row and 2 in all, step 4 because", 3),
    ],
)
def test_many_bad_steps_end_the_run_and_spare_the_last_checkpoint(
    work, capsys, bad, limit, told, saved
):
    more = (f"model.params.bad={bad}", f"{OF}.{limit}", "--checkpoint_every", "3")
    assert work.start("run", ON, STUMBLING, *more) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
    assert "the loss is nan" in line
    assert "resume from it" in line
    assert work.checkpoint("run")["global_step"] == saved


def test_a_loss_that_leaps_is_left_out_only_where_leaps_are_looked_for(work, capsys):
    leap = (STUMBLING, "model.params.bad=[5]", "model.params.factor=1000", "--max_steps", "6")
    assert work.start("five", "--max_steps", "5") == 0
    assert work.start("taken", ON, *leap) == 0
    assert "left out" not in capsys.readouterr().out
    assert work.start("spared", ON, f"{OF}.spike=20", f"{OF}.window=4", *leap) == 0
    assert "step 5 is left out: the loss leaps to " in capsys.readouterr().out
    torch.testing.assert_close(weights(work, "spared"), weights(work, "five"), rtol=0, atol=0)
    assert not torch.equal(
        moments(work, "taken")[0]["exp_avg"], moments(work, "five")[0]["exp_avg"]
    )


def test_a_resumed_run_judges_as_the_whole_one_and_goes_on_with_its_counts(work, capsys):
    bad = (ON, STUMBLING, "model.params.bad=[4,5]", "model.params.factor=100")
    more = (*bad, f"{OF}.spike=20", f"{OF}.window=4")
    assert work.start("whole", *more) == 0
    assert capsys.readouterr().out.count("left out") == 2
    assert work.start("halves", *more, "--max_steps", "5") == 0
    assert work.go_on("halves", "--max_steps", "7") == 0
    assert "2 in a row, 2 in all" in capsys.readouterr().out
    assert_same_run(work, "whole", "halves", "train/loss")


@FORK
def test_all_processes_leave_out_a_step_that_is_bad_in_one(work):
    base = ["-b", work.folder / "config.yaml", "-t", "-l", work.folder, ON, STUMBLING]
    two = ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp_fork"]
    two += ["data.params.train.params.length=16"]
    bad = ["model.params.bad=[1]", "model.params.rank=1"]
    code, _ = run_main(*base, *two, "-n", "one", "--max_steps", "1", cwd=work.folder)
    code, out = run_main(*base, *two, *bad, "-n", "two", "--max_steps", "2", cwd=work.folder)
    assert code == 0, out
    assert "step 1 is left out: the loss is nan (process 1); samples 8 to 15 of the run" in out
    torch.testing.assert_close(weights(work, "two"), weights(work, "one"), rtol=0, atol=0)


class Poison(pl.Callback):
    """Puts a number into the gradients of some steps."""

    def __init__(self, steps, number):
        self.steps, self.number = steps, number

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step in self.steps:
            next(p for p in pl_module.parameters() if p.grad is not None).grad[0] = self.number


def test_gradients_without_numbers_count_too_and_averages_stay_where_they_are(caplog):
    torch.manual_seed(0)
    model = latent()
    trainer = fit(model, steps=3, callbacks=[SkipBadSteps(), Poison((1,), math.inf)])
    assert trainer.global_step == 3
    assert "step 1 is left out: gradients are not finite, the loss is " in caplog.text
    assert int(model.model_ema.num_updates) == 2
    assert all(torch.isfinite(p).all() for p in model.parameters())


class Line(pl.LightningModule):
    """Learns one number; the losses of some steps are multiplied."""

    def __init__(self, factors, fused):
        super().__init__()
        self.number, self.factors, self.fused = nn.Parameter(torch.ones(2)), factors, fused
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(self.number.detach().clone())
        return self.number.square().sum() * self.factors.get(self.global_step, 1.0)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1, fused=self.fused)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("factor", [math.nan, 1e4])
def test_with_a_loss_that_is_scaled_for_float16_bad_steps_change_nothing(caplog, fused, factor):
    model = Line({4: factor}, fused)
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=64.0))
    skip = SkipBadSteps(spike=50.0, window=3)
    fit(model, DataLoader(torch.zeros(6, 1)), steps=6, callbacks=[skip], plugins=[precision])
    moved = [not torch.equal(a, b) for a, b in zip(model.seen, model.seen[1:], strict=False)]
    assert moved == [True, True, True, True, False]
    assert torch.isfinite(model.number).all()
    assert not torch.equal(model.number, model.seen[-1])
    assert caplog.text.count("left out") == 1
    told = float(model.seen[4].square().sum()) * factor
    assert f"the loss {'leaps to' if math.isfinite(factor) else 'is'} {told:.4g}" in caplog.text


class TwoSides(pl.LightningModule):
    """Steps two optimizers itself; the second's loss is no number in some batches."""

    def __init__(self, bad):
        super().__init__()
        self.automatic_optimization = False
        self.a, self.b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        self.bad, self.steps = bad, []

    def training_step(self, batch, batch_idx):
        before = self.a.item(), self.b.item()
        for number, optimizer in enumerate(self.optimizers()):
            optimizer.zero_grad()
            loss = (self.a, self.b)[number].square().sum()
            self.manual_backward(loss * math.nan if (number, batch_idx) in self.bad else loss)
            optimizer.step()
        self.steps.append((self.a.item() != before[0], self.b.item() != before[1]))

    def configure_optimizers(self):
        return [torch.optim.SGD([p], lr=0.1) for p in (self.a, self.b)]


def test_of_two_optimizers_only_the_one_with_a_bad_loss_stands_still():
    model = TwoSides({(1, 1), (0, 2), (1, 3)})
    skip = SkipBadSteps(in_a_row=2)
    fit(model, DataLoader(torch.zeros(5, 1)), steps=10, callbacks=[skip])
    still = {(batch, number) for batch, moved in enumerate(model.steps) for number in (0, 1)
             if not moved[number]}  # fmt: skip
    assert still == {(1, 1), (2, 0), (3, 1)}
    assert skip.total == 3


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"in_a_row": 0}, "in_a_row of SkipBadSteps is 0; expected 1 or more steps"),
        ({"in_total": True}, "in_total of SkipBadSteps is True"),
        ({"spike": "high"}, "spike of SkipBadSteps is 'high'; expected a number above 0, or null"),
        ({"window": 1}, "window of SkipBadSteps is 1; expected 2 or more steps"),
    ],
)
def test_numbers_out_of_range_are_refused(params, words):
    with pytest.raises(UserError, match=words):
        SkipBadSteps(**params)

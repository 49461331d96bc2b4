"""A resumed run takes the learning rate that is asked for, at its place in the schedule."""

from __future__ import annotations

import re

import pytest
import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import LambdaLR, StepLR

from ldm.training.resumed_rates import LearningRateOnResume

SCHEDULES = {
    "none": None,
    "lambda": lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "step": lambda optimizer: StepLR(optimizer, step_size=2, gamma=0.5),
}


class Line(pl.LightningModule):
    """Fits a line; its second parameter learns at twice the rate."""

    def __init__(self, rate: float, schedule: str):
        super().__init__()
        self.rate, self.schedule = rate, SCHEDULES[schedule]
        self.layer = torch.nn.Linear(1, 1)
        self.used: list[tuple[float, ...]] = []

    def training_step(self, batch, _):
        self.used.append(tuple(group["lr"] for group in self.optimizers().param_groups))
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        groups = [
            {"params": [self.layer.weight], "lr": self.rate},
            {"params": [self.layer.bias], "lr": 2 * self.rate},
        ]
        optimizer = torch.optim.AdamW(groups)
        if self.schedule is None:
            return optimizer
        each_step = {"scheduler": self.schedule(optimizer), "interval": "step"}
        return [optimizer], [each_step]


def rates(folder, rate: float, schedule: str, steps: int, resume: str | None = None):
    """Train to ``steps`` steps; return the rates of each step taken, and the trainer."""
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps, logger=False, default_root_dir=folder,
        callbacks=[LearningRateOnResume()], enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    data = torch.utils.data.TensorDataset(torch.ones(64, 1))
    model = Line(rate, schedule)
    trainer.fit(model, torch.utils.data.DataLoader(data), ckpt_path=resume)
    return model.used, trainer


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("factor", [0.1, 1.0, 3.0])
def test_a_resumed_run_goes_on_with_the_rate_asked_for(tmp_path, schedule, factor):
    whole, _ = rates(tmp_path, 1e-2, schedule, 8)
    _, trainer = rates(tmp_path, 1e-2, schedule, 4)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _ = rates(tmp_path, factor * 1e-2, schedule, 8, str(tmp_path / "last.ckpt"))
    wanted = torch.tensor(whole[4:]) * factor
    torch.testing.assert_close(torch.tensor(resumed), wanted, rtol=1e-6, atol=0)


def test_a_run_whose_rate_is_not_scaled_goes_on_unscaled_until_told_otherwise(work, capsys):
    def rate():
        return float(re.search(r"learning rate (\S+)", capsys.readouterr().out)[1])

    assert work.start("run", "--max_steps", "1", "--scale_lr", "false") == 0
    first = rate()
    assert work.go_on("run", "--max_steps", "2") == 0
    assert rate() == first == pytest.approx(0.01)
    assert work.go_on("run", "--max_steps", "3", "--scale_lr") == 0
    assert rate() == pytest.approx(0.04)  # four pictures a batch


def test_an_unchanged_rate_is_resumed_to_the_bit_and_without_a_word(tmp_path, caplog):
    whole, _ = rates(tmp_path, 1e-2, "lambda", 8)
    _, trainer = rates(tmp_path, 1e-2, "lambda", 4)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    with caplog.at_level("INFO", logger="ldm"):
        resumed, _ = rates(tmp_path, 1e-2, "lambda", 8, str(tmp_path / "last.ckpt"))
    assert resumed == whole[4:]
    assert "in place of" not in caplog.text

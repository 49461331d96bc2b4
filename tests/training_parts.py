"""A dataset and models small enough that a whole run of main.py takes a moment."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import Dataset

from ldm.training.exactness import ExactBatches

SIDE = 16


class Pictures(Dataset):
    """Coloured ramps (SIDE, SIDE, 3) in [-1, 1] with captions; item i is always the same.

    Args:
        length: Items.
        augment: Change the brightness by random numbers: torch's, NumPy's and Python's.
        labels: Number the items' classes too.
    """

    def __init__(self, length: int = 10, augment: bool = False, labels: bool = False):
        self.length, self.augment, self.labels = length, augment, labels

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        ends = torch.rand(2, 3, generator=generator) * 2 - 1
        ramp = torch.linspace(0, 1, SIDE)[:, None, None]
        picture = ends[0] * ramp + ends[1] * (1 - ramp)
        if self.augment:
            picture = picture * float(torch.rand(())) * np.random.rand() * random.random()
        item = {"jpg": picture.expand(SIDE, SIDE, 3).contiguous(), "txt": f"ramp {index}"}
        return {**item, "class_label": index} if self.labels else item


class Denoiser(pl.LightningModule):
    """The least LightningModule that a run can train: noise, an average, a figure to watch.

    Args:
        monitor: Figure that chooses the best checkpoint.
        raise_signal: Name of a signal that the model sends itself.
        at: Training step number, counted in this process from 0, at which it does or fails.
        failure: "nan" makes that loss NaN, "error" raises, "error_0" in the first process alone;
            None neither.
        in_validation: Send the signal in the first validation after that step instead.
        noise: Standard deviation of the noise.
    """

    def __init__(
        self,
        monitor: str | None = "val/loss",
        raise_signal: str | None = None,
        at: int = -1,
        failure: str | None = None,
        in_validation: bool = False,
        noise: float = 0.5,
    ):
        super().__init__()
        self.weight = nn.Linear(3, 3)
        self.register_buffer("average", torch.zeros(3))
        self.monitor, self.raise_signal, self.at = monitor, raise_signal, at
        self.failure, self.in_validation, self.noise = failure, in_validation, noise
        self.steps = 0

    def training_step(self, batch, batch_idx):
        x = batch["jpg"]
        loss = (self.weight(x + self.noise * torch.randn_like(x)) - x).square().mean()
        if self.steps == self.at:
            loss = self._mishap(loss)
        self.steps += 1
        self.log("train/loss", loss)
        return loss

    def _mishap(self, loss):
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        if self.failure == "error" or (self.failure == "error_0" and first):
            raise RuntimeError("a fault in the model")
        if self.failure == "nan":
            return loss * float("nan")
        if self.raise_signal and not self.in_validation:
            os.kill(os.getpid(), getattr(signal, self.raise_signal))
        return loss

    def validation_step(self, batch, batch_idx):
        if self.raise_signal and self.in_validation and self.steps > self.at:
            os.kill(os.getpid(), getattr(signal, self.raise_signal))
        x = batch["jpg"]
        noisy = x + 0.5 * torch.randn_like(x)
        figure = (self.weight(noisy) - x).square().mean()
        self.log("val/loss", figure, batch_size=len(x))
        return figure

    def test_step(self, batch, batch_idx):
        x = batch["jpg"]
        noisy = x + 0.5 * torch.randn_like(x)
        self.log("test/loss", (self.weight(noisy) - x).square().mean(), batch_size=len(x))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.learning_rate)

    def on_train_batch_start(self, batch, batch_idx):
        if self.global_step == 0 and batch_idx == 0:
            self.average.fill_(1.0)

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.average.lerp_(self.weight.bias.detach(), 0.1)

    def log_images(self, batch, N=8):
        x = batch["jpg"][:N]
        noisy = x + 0.5 * torch.randn_like(x)
        return {name: y.movedim(-1, 1) for name, y in (("inputs", x), ("noisy", noisy))}


class Stumbling(Denoiser):
    """Multiplies the losses of some of the run's batches.

    Args:
        bad: Numbers of the batches, from 0.
        factor: By how much.
        rank: The process that does so; None for all.
    """

    def __init__(self, bad=(), factor: float = float("nan"), rank: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.bad, self.factor, self.rank = tuple(bad), factor, rank

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        number = ExactBatches.of(self.trainer).batches_done
        here = self.rank in (None, self.global_rank)
        return loss * self.factor if number in self.bad and here else loss


class Deep(Denoiser):
    """Has a matrix that is large enough to be sent as one of low rank."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.weight = nn.Sequential(nn.Linear(3, 64), nn.Linear(64, 64), nn.Linear(64, 3))

    def optimizer_step(self, *args, **kwargs):
        pl.LightningModule.optimizer_step(self, *args, **kwargs)


class Recorder(pl.Callback):
    """Write what each process is given and the gradients it steps with: ``<rank>.pt``."""

    def __init__(self, folder: str):
        self.folder, self.seen, self.gradients = Path(folder), [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen += batch["txt"]

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        named = pl_module.named_parameters()
        self.gradients.append({k: p.grad.clone() for k, p in named if p.grad is not None})

    def on_train_end(self, trainer, pl_module):
        self.folder.mkdir(parents=True, exist_ok=True)
        buffers = {k: b.clone() for k, b in pl_module.named_buffers()}
        record = {"seen": self.seen, "gradients": self.gradients, "buffers": buffers}
        torch.save(record, self.folder / f"{trainer.global_rank}.pt")


class Remembering(Denoiser):
    """Saves its parameters as the configuration has them, and kinds of values beside them."""

    def __init__(self, nested=None, **kwargs):
        super().__init__(**kwargs)
        kinds = {"kind": nn.Linear, "path": Path("a"), "rate": np.float64(0.5)}
        self.save_hyperparameters()
        self.save_hyperparameters(kinds)


class Forgetful(Denoiser):
    """Leaves its average out of checkpoints, and is loaded without it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.strict_loading = False

    def on_save_checkpoint(self, checkpoint):
        del checkpoint["state_dict"]["average"]


class Restoring(Forgetful):
    """Puts it back by a hook of its own when it is loaded, strictly."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.strict_loading = True

    def on_load_checkpoint(self, checkpoint):
        checkpoint["state_dict"]["average"] = torch.ones(3)


class Wide(Forgetful):
    """Has a weight of another shape."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.weight = nn.Linear(4, 4)

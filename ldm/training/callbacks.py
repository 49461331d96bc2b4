"""Callbacks of a run: its folder, its progress line on the console, its time and memory."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.training.exactness import ExactBatches
from ldm.training.metrics import MetricsFile

logger = logging.getLogger(__name__)


class SetupCallback(pl.Callback):
    """Make the run's folders and save its merged configuration there.

    Args:
        now: Time of the start, part of the files' names.
        logdir: The run's folder.
        ckptdir: Its checkpoint folder.
        cfgdir: Its configuration folder.
        config: Model and data as merged.
        lightning_config: The ``lightning`` section as merged.
    """

    def __init__(
        self,
        now: str,
        logdir: str | Path,
        ckptdir: str | Path,
        cfgdir: str | Path,
        config: DictConfig,
        lightning_config: DictConfig,
    ):
        self.now = now
        self.logdir, self.ckptdir, self.cfgdir = Path(logdir), Path(ckptdir), Path(cfgdir)
        self.config, self.lightning_config = config, lightning_config

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Make the folders and files; the first process does it for all."""
        if not trainer.is_global_zero:
            return
        folders = (self.ckptdir, self.cfgdir, self.logdir / "images")
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        wrapped = OmegaConf.create({"lightning": self.lightning_config})
        for name, config in (("project", self.config), ("lightning", wrapped)):
            with replacing(self.cfgdir / f"{self.now}-{name}.yaml") as part:
                part.write_text(OmegaConf.to_yaml(config), encoding="utf-8")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Drop the figures logged after the checkpoint that training continues from."""
        for log in trainer.loggers:
            if isinstance(log, MetricsFile):
                log.forget_from(trainer.global_step)


class CUDACallback(pl.Callback):
    """Log the time and the peak memory of each epoch on a GPU."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Start measuring."""
        self._begun = time.monotonic()
        device = trainer.strategy.root_device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Log the measurements."""
        device = trainer.strategy.root_device
        if device.type != "cuda" or not trainer.is_global_zero:
            return
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) / 2**20
        logger.info(
            "epoch %d: %.1f s, peak memory %.0f MiB",
            trainer.current_epoch,
            time.monotonic() - self._begun,
            peak,
        )


class ProgressLine(pl.Callback):
    """Log a line at intervals: mean loss, speed, learning rate and time left.

    Args:
        every_n_train_steps: Optimizer steps between two lines.
    """

    def __init__(self, every_n_train_steps: int = 50):
        if every_n_train_steps < 0:
            raise UserError(f"{every_n_train_steps} steps between lines; expected 0 or more")
        self.every_n_train_steps = every_n_train_steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start counting."""
        self._begun = time.monotonic()
        self._first_step = trainer.global_step
        del pl_module
        self._restart(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Add the batch's loss; at the end of an interval log the line."""
        self._loss = self._loss + ExactBatches.of(trainer).last_loss
        self._batches += 1
        steps = trainer.global_step - self._step
        if steps < self.every_n_train_steps and trainer.global_step != trainer.max_steps:
            return
        if steps > 0 and trainer.is_global_zero:
            logger.info("%s", self._line(trainer, steps))
        self._restart(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop the clock: validation does not count towards training speed."""
        del trainer, pl_module
        self._validating = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log the validation's figures."""
        del pl_module
        if trainer.sanity_checking:
            return
        self._since += time.monotonic() - self._validating
        figures = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val")}
        if trainer.is_global_zero and figures:
            text = "  ".join(f"{key} {value:.4g}" for key, value in sorted(figures.items()))
            logger.info("step %d  %s", trainer.global_step, text)

    def _line(self, trainer: pl.Trainer, steps: int) -> str:
        now, samples = time.monotonic(), ExactBatches.of(trainer).samples_done
        seconds = max(now - self._since, 1e-9)
        parts = [
            f"step {trainer.global_step}"
            + (f"/{trainer.max_steps}" if self._limited(trainer) else ""),
            f"epoch {trainer.current_epoch}",
            f"loss {float(self._loss) / self._batches:.5f}",
            f"{steps / seconds:.3g} steps/s",
            f"{(samples - self._samples) / seconds:.4g} samples/s",
            f"lr {trainer.optimizers[0].param_groups[0]['lr']:.3g}",
            f"{_clock(now - self._begun)} elapsed",
        ]
        if self._limited(trainer):
            rate = (now - self._begun) / max(1, trainer.global_step - self._first_step)
            parts.append(f"{_clock(rate * (trainer.max_steps - trainer.global_step))} left")
        return "  ".join(parts)

    @staticmethod
    def _limited(trainer: pl.Trainer) -> bool:
        return trainer.max_steps is not None and trainer.max_steps > 0

    def _restart(self, trainer: pl.Trainer) -> None:
        self._since = time.monotonic()
        self._step, self._samples = trainer.global_step, ExactBatches.of(trainer).samples_done
        self._loss: Any = 0.0
        self._batches = 0


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"

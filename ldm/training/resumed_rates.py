"""A resumed run's learning rate: the one that its configuration asks for now."""

from __future__ import annotations

import logging

import pytorch_lightning as pl

logger = logging.getLogger(__name__)


class LearningRateOnResume(pl.Callback):
    """Let a changed learning rate take effect when a run is resumed.

    A checkpoint holds the optimizers' learning rates, and restoring it would put them in the place
    of those that were just computed and announced. The position in the schedule is kept: a rate
    that a schedule had halved is half of the new one.
    """

    def __init__(self) -> None:
        self._wanted: list[list[float]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Remember the new optimizers' rates; the checkpoint's are restored after this hook."""
        self._wanted = [
            [_base_rate(group) for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Put them back, and say so where they differ."""
        for optimizer, wanted in zip(trainer.optimizers, self._wanted, strict=True):
            for group, rate in zip(optimizer.param_groups, wanted, strict=True):
                saved = _base_rate(group)
                if saved in (0.0, rate):
                    continue
                logger.info("learning rate %.3g in place of the checkpoint's %.3g", rate, saved)
                group["lr"] *= rate / saved
                if "initial_lr" in group:
                    group["initial_lr"] = rate
        for config in trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            if hasattr(scheduler, "base_lrs"):
                scheduler.base_lrs = [_base_rate(g) for g in scheduler.optimizer.param_groups]


def _base_rate(group: dict) -> float:
    """Return a parameter group's rate before a schedule's factor."""
    return group.get("initial_lr", group["lr"])

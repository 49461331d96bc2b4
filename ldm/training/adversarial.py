"""Training task of models with a discriminator: two optimizers, stepped manually.

As in the reference, each batch is one step of the autoencoder, then one of the discriminator on the
updated autoencoder's output. Both count as one step: ``max_steps``, ``disc_start`` and a
checkpoint's ``global_step`` are steps of the autoencoder.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import nn

from ldm.training.task import TrainingTask


class AdversarialTask(TrainingTask):
    """Train a model with ``two_optimizers``.

    If a task steps its optimizers itself, Lightning does not accumulate or clip gradients, nor step
    schedules; so this task does so, following the Trainer's settings.

    Args:
        model: Has ``configure_optimizers() -> (optimizers, schedules)`` and
            ``training_step(batch, batch_idx, optimizer_idx) -> (loss, logs)``.
        seed: First part of each batch's seed.
    """

    def __init__(self, model: nn.Module, *, seed: int = 23):
        super().__init__(model, seed=seed)
        self.automatic_optimization = False
        self.accumulated_batches = 1
        self.clip: dict[str, Any] = {}

    def adopt(self, trainer: pl.Trainer) -> None:
        """Take over what the Trainer would refuse to do, and load the weights of the loss.

        Raises:
            UserError: The loss needs weights that are missing.
        """
        self.accumulated_batches = trainer.accumulate_grad_batches
        trainer.accumulate_grad_batches = 1
        if trainer.gradient_clip_val:
            self.clip = {
                "gradient_clip_val": trainer.gradient_clip_val,
                "gradient_clip_algorithm": trainer.gradient_clip_algorithm or "norm",
            }
        trainer.gradient_clip_val = trainer.gradient_clip_algorithm = None
        prepare = getattr(getattr(self.model, "loss", None), "prepare", None)
        if prepare is not None:
            prepare()

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Restore the accumulation after the Trainer's check: its loggers count steps by it."""
        self.trainer.accumulate_grad_batches = self.accumulated_batches

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Train both sides on a batch and log their figures."""
        steps = self._completes_a_step(batch_idx)
        losses, logs = [], {}
        for index, optimizer in enumerate(self.optimizers()):
            with optimizer.toggle_model(sync_grad=steps):
                loss, figures = self.model.training_step(batch, batch_idx, index)
                self.watch_loss(loss)
                self.manual_backward(loss / self.accumulated_batches)
                if steps:
                    self._step(optimizer, counts=index == 0)
            losses.append(loss.detach())
            logs |= figures
        if steps:
            for schedule in self._schedules():
                schedule.step()
            self.model.on_train_batch_end()
        self.record(batch, logs)
        # The reported loss is the autoencoder's; a discriminator's NaN must not be saved either.
        self.last_loss = losses[0] + 0.0 * losses[1]

    def _completes_a_step(self, batch_idx: int) -> bool:
        """Check whether enough batches have been accumulated, or the epoch ends."""
        number = batch_idx + 1
        ends = self.trainer.is_last_batch or number >= self.trainer.num_training_batches
        return ends or number % self.accumulated_batches == 0

    def _step(self, optimizer: LightningOptimizer, *, counts: bool) -> None:
        if self.clip:
            self._clip_gradients(optimizer)
        if counts:
            optimizer.step()
        else:  # bypass Lightning's wrapper, which would count another step
            self.trainer.strategy.optimizer_step(optimizer.optimizer, closure=_nothing)
        optimizer.zero_grad()

    def _clip_gradients(self, optimizer: LightningOptimizer) -> None:
        # In 16-mixed the gradients are still scaled here, so the limit is scaled too.
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        limit = self.clip["gradient_clip_val"] * (scaler.get_scale() if scaler else 1.0)
        self.clip_gradients(optimizer.optimizer, **{**self.clip, "gradient_clip_val": limit})

    def _schedules(self) -> list[Any]:
        schedules = self.lr_schedulers()
        if schedules is None:
            return []
        return schedules if isinstance(schedules, list) else [schedules]

    def on_validation_start(self) -> None:
        """Tell the model the step, which decides whether the discriminator takes part."""
        self.model.global_step = max(self.global_step, self.loaded_step)

    def on_test_start(self) -> None:
        """As ``on_validation_start``."""
        self.on_validation_start()


def _nothing() -> None:
    """Serve as the closure of a step whose gradients are already computed."""

"""What every model that trains here does under a Lightning Trainer.

Importing this imports Lightning, which takes seconds; drawing does not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

Figures = dict[str, Tensor]


class HubTraining(pl.LightningModule):
    """Base of the trained models: their figures in the log, and one optimizer's step.

    Subclasses define ``training_step``, ``configure_optimizers`` and ``validation_figures``.

    Attributes:
        loaded_step: Optimizer steps of the checkpoint that the Trainer loaded; 0 for none.
    """

    loaded_step = 0
    _averaged_at = 0

    def validation_figures(self, batch: Any) -> Figures:
        """Return what to log of a validation batch, under names that begin with ``val``."""
        raise NotImplementedError

    def validation_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's
        """Log a validation batch's figures, averaged over the set."""
        self.log_figures(self.validation_figures(batch), batch, on_step=False)

    def test_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's
        """Log the validation figures of the test set as ``test/...``."""
        figures = self.validation_figures(batch)
        named = {name.replace("val", "test", 1): value for name, value in figures.items()}
        self.log_figures(named, batch, on_step=False)

    @property
    def steps_done(self) -> int:
        """Optimizer steps done: of this fit, or of the checkpoint where nothing is trained."""
        fitting = self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        return self.global_step if fitting else max(self.global_step, self.loaded_step)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the checkpoint's step: Lightning forgets it when it only tests."""
        self.loaded_step = checkpoint.get("global_step", 0)

    def log_figures(
        self,
        figures: Mapping[str, Any],
        batch: Any,
        *,
        on_step: bool,
        on_epoch: bool | None = None,
    ) -> None:
        """Log figures of a batch by ``log_dict``; without a Trainer do nothing.

        Args:
            figures: Numbers, or tensors of one element.
            batch: What they are of; its size weighs them in an average.
            on_step: Log them now.
            on_epoch: Log their average over the epoch; None does so where ``on_step`` is false.
                With both, Lightning's loggers name them ``..._step`` and ``..._epoch``.
        """
        if self._trainer is None:
            return
        self.log_dict(
            {k: v.detach().float() if isinstance(v, Tensor) else v for k, v in figures.items()},
            prog_bar=on_step,
            on_step=on_step,
            on_epoch=not on_step if on_epoch is None else on_epoch,
            batch_size=batch_size_of(batch),
            sync_dist=not on_step,
        )

    def log_position(self, batch: Any) -> None:
        """Log ``global_step`` and, where a schedule moves it, the learning rate as ``lr_abs``."""
        if self._trainer is None:
            return
        position = {"global_step": float(self.global_step)}
        if getattr(self, "scheduler_config", None) is not None:
            position["lr_abs"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_figures(position, batch, on_step=True)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, free the gradients, then move the averages of the weights.

        Lightning would keep the gradients until the next backward pass, together with the next
        forward pass's activations.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad()
        self.average_once(self.global_step + 1)  # the step counts when this returns

    def move_averages(self) -> None:
        """Move the averages of the weights towards them: nothing, where none is kept."""

    def average_once(self, step: int) -> None:
        """Move the averages, unless they have moved since optimizer step ``step``."""
        if step != self._averaged_at:
            self.move_averages()
            self._averaged_at = step

    def owe_no_average(self, step: int) -> None:
        """Note that optimizer step ``step`` moves no weight, and so no average."""
        self._averaged_at = step

    def on_train_start(self) -> None:
        """Note where training begins: the averages owe no step."""
        self._averaged_at = self.global_step

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Lightning's
        """Move the averages after a step that a subclass took in its own way.

        That is by an ``optimizer_step`` of its own, by hand, or without a Trainer. The averages of
        any other step have moved, before checkpoints are written.
        """
        if self._trainer is None:
            self.move_averages()
        else:
            self.average_once(self.global_step)


def batch_size_of(batch: Any) -> int:
    """Count the items of a collated batch: a mapping, sequence or tensor with equal first sides."""
    if isinstance(batch, Tensor):
        return int(batch.shape[0]) if batch.ndim else 1
    if isinstance(batch, Mapping):
        return max(map(batch_size_of, batch.values()), default=1)
    return len(batch) if isinstance(batch, list | tuple) else 1

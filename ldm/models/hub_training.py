"""What every model that trains here does under a Lightning Trainer.

Importing this imports Lightning, which takes seconds; drawing does not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

Figures = dict[str, Tensor]


class HubTraining(pl.LightningModule):
    """Base of the trained models: their figures in the log, and one optimizer's step.

    Subclasses define ``training_step``, ``configure_optimizers`` and ``validation_figures``.

    Attributes:
        loaded_step: Optimizer steps of the checkpoint that the Trainer loaded; 0 for none.
    """

    loaded_step = 0

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
        """Optimizer steps done, also where only a test of a loaded checkpoint runs."""
        return max(self.global_step, self.loaded_step)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the checkpoint's step: Lightning forgets it when it only tests."""
        self.loaded_step = checkpoint.get("global_step", 0)

    def log_figures(self, figures: Mapping[str, Any], batch: Any, *, on_step: bool) -> None:
        """Log figures of a batch by ``log_dict``; without a Trainer do nothing.

        Args:
            figures: Numbers, or tensors of one element.
            batch: What they are of; its size weighs them in an average.
            on_step: Log them now, else their average over the epoch.
        """
        if self._trainer is None:
            return
        self.log_dict(
            {k: v.detach().float() if isinstance(v, Tensor) else v for k, v in figures.items()},
            prog_bar=on_step,
            on_step=on_step,
            on_epoch=not on_step,
            batch_size=batch_size_of(batch),
            sync_dist=not on_step,
        )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, free the gradients, then move the averages of the weights.

        Here and not in ``on_train_batch_end``: that hook runs after checkpoints are written, and
        once per batch even if gradients are accumulated over several. Lightning would keep the
        gradients until the next backward pass, together with the next forward pass's activations.
        """
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad()
        self.move_averages()

    def move_averages(self) -> None:
        """Move the averages of the weights towards them: nothing, where none is kept."""

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Lightning's
        """Move the averages, where no Trainer's optimizer step has done it."""
        if self._trainer is None:
            self.move_averages()


def batch_size_of(batch: Any) -> int:
    """Count the items of a collated batch: a mapping, sequence or tensor with equal first sides."""
    if isinstance(batch, Tensor):
        return int(batch.shape[0]) if batch.ndim else 1
    if isinstance(batch, Mapping):
        return max(map(batch_size_of, batch.values()), default=1)
    return len(batch) if isinstance(batch, list | tuple) else 1

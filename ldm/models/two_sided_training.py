"""Training of a model by two optimizers in turn, such as an autoencoder and its discriminator.

As in the reference, each batch is one step of the first side, then one of the second on what the
first has become. Lightning has no ``optimizer_idx`` any more, so both are stepped here. They count
as one step: ``max_steps``, ``disc_start`` and a checkpoint's ``global_step`` count the first's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor

from ldm.models.hub_training import HubTraining

SIDE = "optimizer_idx"


def both_sides(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make of ``training_step(batch, batch_idx, optimizer_idx)`` what Lightning calls for a batch.

    Called with ``optimizer_idx`` it is as it was, and returns one side's loss; without, it trains
    both sides. Lightning refuses a parameter of that name, so there is none in the signature.
    """

    def training_step(
        self: TwoSidedTraining, batch: Any, batch_idx: int, side: int | None = None, **named: int
    ) -> Tensor:
        side = named.get(SIDE, side)
        if side is None and self.two_optimizers:
            return self.train_both_sides(batch, batch_idx)
        return step(self, batch, batch_idx, side or 0)

    training_step.__doc__ = step.__doc__
    return training_step


class TwoSidedTraining(HubTraining):
    """Training that steps its two optimizers itself, if ``two_optimizers`` says that it has two.

    Lightning then does not accumulate or clip gradients, nor step schedules, so that is done here.
    Subclasses define ``training_step(batch, batch_idx, optimizer_idx)`` as the reference's; it is
    wrapped by ``both_sides``.

    Attributes:
        two_optimizers: Whether there are two.
        accumulated_batches: Batches whose gradients make one step of each side.
        clip: Arguments of ``clip_gradients``; empty for no clipping.
    """

    two_optimizers: bool = True
    accumulated_batches: int = 1
    clip: Mapping[str, Any] = MappingProxyType({})

    @property
    def automatic_optimization(self) -> bool:
        """Whether Lightning does the steps."""
        return not self.two_optimizers

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap a ``training_step`` that has the reference's ``optimizer_idx``."""
        super().__init_subclass__(**kwargs)
        own = vars(cls).get("training_step")
        if own is not None and SIDE in inspect.signature(own).parameters:
            cls.training_step = both_sides(own)

    def train_both_sides(self, batch: Any, batch_idx: int) -> Tensor:
        """Train the first side on a batch, then the second; return the first's loss."""
        steps, losses = self._completes_a_step(batch_idx), []
        for side, optimizer in enumerate(self.optimizers()):
            with optimizer.toggle_model(sync_grad=steps):
                loss = self.training_step(batch, batch_idx, side)
                self.manual_backward(loss / self.accumulated_batches)
                if steps:
                    self._step(optimizer, counts=side == 0)
            losses.append(loss.detach())
        if steps:
            for schedule in self._schedules():
                schedule.step()
            self.move_averages()
        return losses[0]

    def _completes_a_step(self, batch_idx: int) -> bool:
        """Check whether enough batches have been accumulated, or the epoch ends."""
        number = batch_idx + 1
        ends = self.trainer.is_last_batch or number >= self.trainer.num_training_batches
        return ends or number % self.accumulated_batches == 0

    def _step(self, optimizer: LightningOptimizer, *, counts: bool) -> None:
        if self.clip:
            self._clip(optimizer)
        if counts:
            optimizer.step()
        else:  # bypass Lightning's wrapper, which would count another step
            self.trainer.strategy.optimizer_step(optimizer.optimizer, closure=_nothing)
        optimizer.zero_grad()

    def _clip(self, optimizer: LightningOptimizer) -> None:
        # In 16-mixed the gradients are still scaled here, so the limit is scaled too.
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        limit = self.clip["gradient_clip_val"] * (scaler.get_scale() if scaler else 1.0)
        self.clip_gradients(optimizer.optimizer, **{**self.clip, "gradient_clip_val": limit})

    def _schedules(self) -> list[Any]:
        schedules = self.lr_schedulers()
        if schedules is None:
            return []
        return schedules if isinstance(schedules, list) else [schedules]

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Restore the accumulation after the Trainer's check: its loggers count steps by it."""
        self.trainer.accumulate_grad_batches = max(
            self.accumulated_batches, self.trainer.accumulate_grad_batches
        )


def _nothing() -> None:
    """Serve as the closure of a step whose gradients are already computed."""

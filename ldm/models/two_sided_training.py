"""Training of a model by two optimizers in turn, such as an autoencoder and its discriminator.

As in the reference, each batch is one step of the first side, then one of the second on what the
first has become. Lightning has no ``optimizer_idx`` any more, so both are stepped here. They count
as one step: ``max_steps``, ``disc_start`` and a checkpoint's ``global_step`` count the first's.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import LRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ldm.errors import UserError
from ldm.models.hub_training import HubTraining

SIDE = "optimizer_idx"
NOTES = "notes_schedules"


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


def noting_schedules(configure: Callable[..., Any]) -> Callable[..., Any]:
    """Let ``configure_optimizers`` note its schedules, of which Lightning forgets the interval.

    Of a model that steps its optimizers itself, that is.
    """

    @functools.wraps(configure)
    def configure_optimizers(self: TwoSidedTraining) -> Any:
        configured = configure(self)
        self.schedules = schedules_in(configured)
        return configured

    setattr(configure_optimizers, NOTES, True)
    return configure_optimizers


def schedules_in(configured: Any) -> list[LRSchedulerConfig]:
    """Read the schedules in what ``configure_optimizers`` returns, in each form Lightning takes."""
    several = isinstance(configured, list | tuple)
    if several and len(configured) == 2 and isinstance(configured[0], list | tuple):
        given = configured[1] if isinstance(configured[1], list | tuple) else [configured[1]]
    else:
        pairs = configured if several else [configured]
        given = [
            pair["lr_scheduler"]
            for pair in pairs
            if isinstance(pair, Mapping) and pair.get("lr_scheduler") is not None
        ]
    known = {field.name for field in fields(LRSchedulerConfig)}
    schedules = []
    for one in given:
        named = one if isinstance(one, Mapping) else {"scheduler": one}
        schedule = LRSchedulerConfig(**{k: v for k, v in named.items() if k in known})
        schedule.reduce_on_plateau = isinstance(schedule.scheduler, ReduceLROnPlateau)
        schedules.append(schedule)
    return schedules


class TwoSidedTraining(HubTraining):
    """Training that steps its two optimizers itself, if ``two_optimizers`` says that it has two.

    Lightning then does not accumulate or clip gradients, nor step schedules, so that is done here.
    ``automatic_optimization`` may be set as of any LightningModule. Subclasses define
    ``training_step(batch, batch_idx, optimizer_idx)`` as the reference's; it is wrapped by
    ``both_sides``.

    Attributes:
        two_optimizers: Whether there are two.
        accumulated_batches: Batches whose gradients make one step of each side.
        clip: Arguments of ``clip_gradients``; empty for no clipping.
        schedules: What moves the learning rates, with interval and frequency, both sides'.
    """

    two_optimizers: bool = True
    accumulated_batches: int = 1
    clip: Mapping[str, Any] = MappingProxyType({})
    schedules: Sequence[LRSchedulerConfig] = ()
    _automatic_as_set: bool | None = None

    @property
    def automatic_optimization(self) -> bool:
        """Whether Lightning does the steps."""
        chosen = self._automatic_as_set
        return not self.two_optimizers if chosen is None else chosen

    @automatic_optimization.setter
    def automatic_optimization(self, automatic: bool) -> None:
        self._automatic_as_set = automatic

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap a ``training_step`` with the reference's ``optimizer_idx``, and the schedules."""
        super().__init_subclass__(**kwargs)
        # Not only what the class's own body has: a mixin may bring it.
        if SIDE in inspect.signature(cls.training_step).parameters:
            cls.training_step = both_sides(cls.training_step)
        if not hasattr(cls.configure_optimizers, NOTES):
            cls.configure_optimizers = noting_schedules(cls.configure_optimizers)

    def train_both_sides(self, batch: Any, batch_idx: int) -> Tensor:
        """Train the first side on a batch, then the second; return the first's loss."""
        ends = self._ends_an_epoch(batch_idx)
        steps, losses = ends or (batch_idx + 1) % self.accumulated_batches == 0, []
        for side, optimizer in enumerate(self.optimizers()):
            with optimizer.toggle_model(sync_grad=steps):
                loss = self.training_step(batch, batch_idx, side)
                self.manual_backward(loss / self.accumulated_batches)
                if steps:
                    self._step(optimizer, counts=side == 0)
            losses.append(loss.detach())
        if steps:
            self._step_schedules("step", batch_idx + 1)
            self.average_once(self.global_step)
        if ends:
            self._step_schedules("epoch", self.current_epoch + 1)
        return losses[0]

    def _ends_an_epoch(self, batch_idx: int) -> bool:
        return self.trainer.is_last_batch or batch_idx + 1 >= self.trainer.num_training_batches

    def _step_schedules(self, interval: str, number: int, *, plateau: bool = False) -> None:
        """Step the schedules of an interval, where Lightning would: at multiples of ``frequency``.

        Args:
            interval: ``step`` or ``epoch``.
            number: Batches of this epoch, or epochs.
            plateau: Those that follow a logged figure, or those that do not.
        """
        for schedule in self.schedules:
            due = schedule.interval == interval and number % schedule.frequency == 0
            if due and schedule.reduce_on_plateau == plateau:
                figure = self._followed(schedule.monitor) if plateau else None
                self.lr_scheduler_step(schedule.scheduler, figure)

    def _followed(self, monitor: str | None) -> Any:
        logged = self.trainer.callback_metrics
        if monitor not in logged:
            raise UserError(
                f"a learning-rate schedule follows {monitor!r}, which is not logged; expected one "
                f"of: {', '.join(sorted(logged))}; name it as the schedule's monitor"
            )
        return logged[monitor]

    def on_train_epoch_end(self) -> None:
        """Step the schedules that follow a figure, which validation has logged by now."""
        if not self.automatic_optimization:
            self._step_schedules("epoch", self.current_epoch + 1, plateau=True)

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

    def setup(self, stage: str) -> None:  # noqa: ARG002 - Lightning's signature
        """Restore the accumulation after the Trainer's check: its loggers count steps by it."""
        self.trainer.accumulate_grad_batches = max(
            self.accumulated_batches, self.trainer.accumulate_grad_batches
        )


def _nothing() -> None:
    """Serve as the closure of a step whose gradients are already computed."""

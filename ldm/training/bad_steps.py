"""Leave out steps whose loss is no number or leaps, say so, and stop where they become many.

Named as a callback in a YAML. Without it a loss that is no number ends the run, and a leap is
taken like any other step, as in the reference.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from statistics import fmean, median
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from ldm.errors import UserError
from ldm.models.hub_training import HubTraining, batch_size_of
from ldm.training.compression import CompressedStrategy
from ldm.training.exactness import ExactBatches, NonFiniteLoss

logger = logging.getLogger(__name__)

# Entries by which data sets name their samples, the first that a batch has.
NAMES = ("file_path_", "__key__")
MOST_NAMES = 8


class TooManyBadSteps(NonFiniteLoss):
    """So many steps were left out that training cannot go on like this; nothing more is saved."""


class SkipBadSteps(pl.Callback):
    """Leave out each optimizer step whose loss or gradients are not finite, or whose loss leaps.

    All batches of an accumulated step, and all processes, leave out the same steps: the loss that
    is judged is the mean over them. Weights, optimizer and averages stay as they were; the step is
    counted, so the learning rate's schedule goes on. With float16's loss scaling, gradients that
    overflow are the scaler's business and are not counted here.

    Each step waits for its loss, which on a GPU costs a little time. What a forward pass itself
    changes, such as the statistics of a batch norm, is not taken back.

    Args:
        in_a_row: Steps left out one after the other that end the run.
        in_total: Steps left out in the whole run, resumed or not, that end it.
        spike: A loss leaps where it lies more than so many times the usual distance above the
            median of the last steps; their usual distance is the mean of |loss - median|. None
            takes every finite loss.
        window: Steps that the median is of; before so many were taken nothing leaps.

    Raises:
        UserError: A number is out of range.
    """

    def __init__(
        self,
        in_a_row: int = 10,
        in_total: int = 100,
        spike: float | None = None,
        window: int = 100,
    ):
        for name, value, least in (
            ("in_a_row", in_a_row, 1),
            ("in_total", in_total, 1),
            ("window", window, 2),
        ):
            _check(name, value, isinstance(value, int) and value >= least, f"{least} or more steps")
        leaps = spike is None or (isinstance(spike, int | float) and spike > 0)
        _check("spike", spike, leaps, "a number above 0, or null")
        self.in_a_row, self.in_total, self.spike, self.window = in_a_row, in_total, spike, window
        self.total = 0
        self._rows: dict[int, int] = {}  # by the optimizer's number, as are the usual losses
        self._usual: dict[int, deque[float]] = {}
        self._restart()

    def _restart(self) -> None:
        """Forget the batches of the step before."""
        self._loss: Tensor | float = 0.0
        self._names: list[str] = []
        self._first_sample: int | None = None

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Take over what otherwise ends a run."""
        del pl_module, stage
        if (exact := ExactBatches.find(trainer)) is not None:
            exact.stops_at_nan = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note what the batch holds."""
        del pl_module, batch_idx
        first = ExactBatches.of(trainer).samples_done
        self._first_sample = first if self._first_sample is None else self._first_sample
        self._last_sample = first + batch_size_of(batch) * trainer.world_size - 1
        self._names += _names_in(batch)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Tensor) -> None:
        """Add a batch's share of the step's loss."""
        del pl_module
        scaler = _scaler(trainer)
        scale = scaler.get_scale() if scaler is not None else 1.0
        self._loss = self._loss + loss.detach().float() / scale

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer
    ) -> None:
        """Look at the step that is about to be taken; leave it out if it is bad.

        Raises:
            TooManyBadSteps: It is one too many.
        """
        number = trainer.optimizers.index(optimizer)
        losses = self._usual.setdefault(number, deque(maxlen=self.window))
        scaler = _scaler(trainer)
        loss, finite = _agreed(trainer, self._loss, optimizer if scaler is None else None)
        why = None if math.isfinite(loss) and finite else f"the loss is {loss:.4g}"
        if why and math.isfinite(loss):
            why = f"gradients are not finite, the loss is {loss:.4g}"
        limit = self._limit(losses)
        if why is None and loss > limit:
            why = f"the loss leaps to {loss:.4g}, over {limit:.4g}"
        if why is None:
            losses.append(loss)
            self._rows[number] = 0
        else:
            _leave_out(optimizer, scaler)
            if isinstance(trainer.strategy, CompressedStrategy):
                trainer.strategy.forget_errors()
            if number == 0 and isinstance(pl_module, HubTraining):
                pl_module.owe_no_average(trainer.global_step + 1)
            self._rows[number] = self._rows.get(number, 0) + 1
            self.total += 1
            self._say(trainer, why, limit, self._rows[number])
        self._restart()

    def _limit(self, losses: deque[float]) -> float:
        """Return the loss above which a step leaps."""
        if self.spike is None or len(losses) < self.window:
            return math.inf
        middle = median(losses)
        distance = fmean(abs(loss - middle) for loss in losses)
        return middle + self.spike * distance if distance > 0 else math.inf

    def _say(self, trainer: pl.Trainer, why: str, limit: float, row: int) -> None:
        held = f"samples {self._first_sample} to {self._last_sample} of the run"
        own = float(self._loss)
        at_fault = not math.isfinite(own) or own > limit
        if at_fault and self._names:
            more = f" and {len(self._names) - MOST_NAMES} more"
            names = ", ".join(self._names[:MOST_NAMES])
            held += f": {names}{more if len(self._names) > MOST_NAMES else ''}"
        where = f" (process {trainer.global_rank})" if trainer.world_size > 1 and at_fault else ""
        if trainer.is_global_zero or at_fault:
            logger.warning(
                "step %d is left out: %s%s; %s; %d in a row, %d in all",
                *(trainer.global_step, why, where, held, row, self.total),
            )
        if row >= self.in_a_row or self.total >= self.in_total:
            raise TooManyBadSteps(
                f"steps were left out, {row} in a row and {self.total} in all, step "
                f"{trainer.global_step} because {why}; allowed are fewer than {self.in_a_row} and "
                f"{self.in_total}; last.ckpt is left as it was: resume from it with a lower "
                "learning rate, gradient_clip_val, precision 32 or without the samples named above"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to judge as this one would."""
        usual = {str(number): list(losses) for number, losses in self._usual.items()}
        rows = {str(number): row for number, row in self._rows.items()}
        return {"rows": rows, "total": self.total, "usual": usual}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what an earlier part of the run counted."""
        self.total = state_dict["total"]
        self._rows = {int(number): row for number, row in state_dict["rows"].items()}
        self._usual = {
            int(number): deque(losses, maxlen=self.window)
            for number, losses in state_dict["usual"].items()
        }


def _check(name: str, value: Any, fits: bool, expected: str) -> None:
    if not fits or isinstance(value, bool):
        raise UserError(
            f"{name} of SkipBadSteps is {value!r}; expected {expected}; correct it in "
            "lightning.callbacks"
        )


def _names_in(batch: Any) -> list[str]:
    held = batch if isinstance(batch, Mapping) else {}
    return next((list(map(str, held[key])) for key in NAMES if key in held), [])


def _scaler(trainer: pl.Trainer) -> Any:
    """Return what scales the loss for float16, if anything does."""
    return getattr(trainer.precision_plugin, "scaler", None)


def _agreed(
    trainer: pl.Trainer, loss: Tensor | float, optimizer: Optimizer | None
) -> tuple[float, bool]:
    """Return a step's loss, its mean over all processes, and whether all gradients are finite.

    Args:
        trainer: Its strategy asks the other processes.
        loss: This process's.
        optimizer: Whose gradients are looked at; None for those that a scaler looks at.
    """
    device = trainer.strategy.root_device
    own = torch.as_tensor(loss, dtype=torch.float32, device=device)
    finite = torch.ones_like(own)
    gradients = [p.grad for p in _parameters(optimizer) if p.grad is not None] if optimizer else []
    if gradients:
        local = [g.to_local() if isinstance(g, DTensor) else g for g in gradients]
        norm = torch.nn.utils.get_total_norm(local)
        finite = torch.isfinite(norm).to(own)
    both = trainer.strategy.reduce(torch.stack([own, finite]), reduce_op="mean").tolist()
    return both[0], both[1] == 1.0


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _leave_out(optimizer: Optimizer, scaler: Any) -> None:
    """Let the step that follows change nothing: neither weights nor the optimizer's memory."""
    handles_scaling = getattr(optimizer, "_step_supports_amp_scaling", False)
    for p in _parameters(optimizer):
        if p.grad is None:
            continue
        if scaler is not None and handles_scaling:
            # A fused optimizer's gradients are looked at after this, and there must be some.
            p.grad.fill_(math.inf)
        else:
            p.grad = None

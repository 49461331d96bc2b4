"""Learning rate multipliers by step, for ``torch.optim.lr_scheduler.LambdaLR``.

An object's ``schedule`` (or the object itself) takes the step number and returns the factor that
multiplies the base learning rate.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

logger = logging.getLogger(__name__)


def _cosine(start: float, end: float, fraction: float) -> float:
    """Fall from ``start`` to ``end`` along half a cosine; ``fraction`` in [0, 1]."""
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))


def _line(start: float, end: float, fraction: float) -> float:
    return start + (end - start) * fraction


class LambdaWarmUpCosineScheduler:
    """Rise linearly from ``lr_start`` to ``lr_max``, then fall to ``lr_min`` along a cosine.

    Args:
        warm_up_steps: Steps of the rise; 0 starts at ``lr_max``.
        lr_min: Final factor, kept after ``max_decay_steps``.
        lr_max: Factor at the end of the rise.
        lr_start: Factor at step 0.
        max_decay_steps: Step at which ``lr_min`` is reached.
        verbosity_interval: Log the factor every so many steps; 0 never.
    """

    def __init__(
        self,
        warm_up_steps: int,
        lr_min: float,
        lr_max: float,
        lr_start: float,
        max_decay_steps: int,
        verbosity_interval: int = 0,
    ):
        self.warm_up_steps = warm_up_steps
        self.lr_min, self.lr_max, self.lr_start = lr_min, lr_max, lr_start
        self.max_decay_steps = max_decay_steps
        self.verbosity_interval = verbosity_interval
        self.last_lr = 0.0

    def schedule(self, n: int, **_: object) -> float:
        """Return the factor of step ``n``."""
        if n < self.warm_up_steps:
            self.last_lr = _line(self.lr_start, self.lr_max, n / self.warm_up_steps)
        else:
            span = max(1, self.max_decay_steps - self.warm_up_steps)
            self.last_lr = _cosine(self.lr_max, self.lr_min, (n - self.warm_up_steps) / span)
        _report(n, self.last_lr, self.verbosity_interval)
        return self.last_lr

    def __call__(self, n: int, **kwargs: object) -> float:
        return self.schedule(n, **kwargs)


class LambdaWarmUpCosineScheduler2:
    """Repeated cycles, each with its own linear rise and then a cosine fall.

    Args:
        warm_up_steps: Per cycle, steps of the rise.
        f_min: Per cycle, final factor.
        f_max: Per cycle, factor at the end of the rise.
        f_start: Per cycle, factor at its first step.
        cycle_lengths: Per cycle, its steps, rise included. After the last cycle its final factor
            is kept.
        verbosity_interval: Log the factor every so many steps; 0 never.

    Raises:
        ValueError: The lists differ in length.
    """

    def __init__(
        self,
        warm_up_steps: Sequence[int],
        f_min: Sequence[float],
        f_max: Sequence[float],
        f_start: Sequence[float],
        cycle_lengths: Sequence[int],
        verbosity_interval: int = 0,
    ):
        given = (warm_up_steps, f_min, f_max, f_start, cycle_lengths)
        if len({len(values) for values in given}) != 1 or not cycle_lengths:
            raise ValueError(
                f"lists of {[len(values) for values in given]} cycles given (warm_up_steps, f_min, "
                "f_max, f_start, cycle_lengths); expected one value per cycle in each"
            )
        self.lr_warm_up_steps, self.cycle_lengths = list(warm_up_steps), list(cycle_lengths)
        self.f_min, self.f_max, self.f_start = list(f_min), list(f_max), list(f_start)
        self.cum_cycles = [0, *accumulate(cycle_lengths)]
        self.verbosity_interval = verbosity_interval
        self.last_f = 0.0

    def find_in_interval(self, n: int) -> int:
        """Return the number of the cycle that contains step ``n``, its last step included."""
        cycle = bisect_left(self.cum_cycles, n) - 1
        return min(max(cycle, 0), len(self.cycle_lengths) - 1)

    def schedule(self, n: int, **_: object) -> float:
        """Return the factor of step ``n``."""
        cycle = self.find_in_interval(n)
        step = min(n - self.cum_cycles[cycle], self.cycle_lengths[cycle])
        warm = self.lr_warm_up_steps[cycle]
        if step < warm:
            self.last_f = _line(self.f_start[cycle], self.f_max[cycle], step / warm)
        else:
            self.last_f = self.fall(cycle, (step - warm) / max(1, self.cycle_lengths[cycle] - warm))
        _report(n, self.last_f, self.verbosity_interval)
        return self.last_f

    def fall(self, cycle: int, fraction: float) -> float:
        """Return the factor at a ``fraction`` in [0, 1] of the way down."""
        return _cosine(self.f_max[cycle], self.f_min[cycle], fraction)

    def __call__(self, n: int, **kwargs: object) -> float:
        return self.schedule(n, **kwargs)


class LambdaLinearScheduler(LambdaWarmUpCosineScheduler2):
    """``LambdaWarmUpCosineScheduler2`` with a linear fall.

    As in the reference the line starts at the cycle's first step, so after a rise of w steps in a
    cycle of L steps the fall begins w/L of the way down.
    """

    def schedule(self, n: int, **_: object) -> float:
        """Return the factor of step ``n``."""
        cycle = self.find_in_interval(n)
        step = n - self.cum_cycles[cycle]
        warm, length = self.lr_warm_up_steps[cycle], self.cycle_lengths[cycle]
        if step < warm:
            self.last_f = _line(self.f_start[cycle], self.f_max[cycle], step / warm)
        else:
            left = max(0.0, (length - step) / length)
            self.last_f = _line(self.f_min[cycle], self.f_max[cycle], left)
        _report(n, self.last_f, self.verbosity_interval)
        return self.last_f


def _report(n: int, factor: float, interval: int) -> None:
    if interval > 0 and n % interval == 0:
        logger.info("step %d: learning rate factor %.6g", n, factor)

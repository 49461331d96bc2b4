"""Which of a model's T training steps a sampler visits.

Every rule returns integers in 0 ... T-1 that increase; only those of ``quad`` may repeat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from ldm.errors import UserError
from ldm.settings.samplers import SPACINGS
from ldm.util import get_obj_from_str


def make_timesteps(spacing: str, steps: int, num_timesteps: int) -> np.ndarray:
    """Choose timesteps.

    Args:
        spacing: A name in ``ldm.settings.samplers.SPACINGS`` that has a rule in times.
        steps: Number of steps asked for, 1 ... ``num_timesteps``.
        num_timesteps: T, the number of training steps.

    Raises:
        UserError: Unknown spacing, or a step count outside the range.
    """
    check_steps(steps, num_timesteps)
    return rule_of(spacing, "times")(steps, num_timesteps)


def rule_of(spacing: str, kind: Literal["times", "sigmas"]) -> Callable[..., np.ndarray]:
    """Return the rule of a spacing, for steps in times or in noise levels.

    Raises:
        UserError: There is no such spacing, or it has no rule of that kind.
    """
    known = {name: rule for name, each in SPACINGS.items() if (rule := getattr(each, kind))}
    if spacing not in known:
        raise UserError(f"spacing {spacing!r} given; expected one of {', '.join(known)}")
    return get_obj_from_str(known[spacing])


def check_steps(steps: int, num_timesteps: int) -> None:
    """Check that a count of sampling steps is 1 ... ``num_timesteps``.

    Raises:
        UserError: It is not.
    """
    if not 1 <= steps <= num_timesteps:
        raise UserError(
            f"{steps} sampling steps given; expected 1 to {num_timesteps}, "
            "the number of steps that the model was trained with"
        )


def uniform(steps: int, num_timesteps: int) -> np.ndarray:
    """Stride as the reference does: whole strides, so that the count may differ from ``steps``."""
    stride = num_timesteps // steps
    timesteps = np.arange(0, num_timesteps, stride) + 1
    # The reference indexes past its table when the last step is T; that step is T-1 here.
    return np.unique(np.minimum(timesteps, num_timesteps - 1))


def linspace(steps: int, num_timesteps: int) -> np.ndarray:
    """Spread exactly ``steps`` from the first training step to the last (arXiv:2305.08891)."""
    return np.round(np.linspace(num_timesteps - 1, 0, steps)[::-1]).astype(np.int64)


def trailing(steps: int, num_timesteps: int) -> np.ndarray:
    """Spread exactly ``steps`` without the first training step (arXiv:2305.08891, table 2)."""
    return np.round(np.arange(1, steps + 1) * (num_timesteps / steps)).astype(np.int64) - 1


def quad(steps: int, num_timesteps: int) -> np.ndarray:
    """Crowd the steps quadratically at the clean end (arXiv:2010.02502, appendix D.2).

    Exactly ``steps``, as in the reference: some visit a training step again at the clean end.
    """
    root = np.linspace(0, np.sqrt(num_timesteps * 0.8), steps)
    return np.minimum((root**2).astype(np.int64) + 1, num_timesteps - 1)


def quad_unique(steps: int, num_timesteps: int) -> np.ndarray:
    """Crowd the steps as ``quad`` does, but visit each training step once: fewer than ``steps``."""
    return np.unique(quad(steps, num_timesteps))

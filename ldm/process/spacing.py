"""Which of a model's T training steps a sampler visits.

Every function returns increasing integers in 0 ... T-1.
"""

from __future__ import annotations

import numpy as np

from ldm.errors import UserError

SPACINGS = ("uniform", "linspace", "trailing", "quad")


def make_timesteps(spacing: str, steps: int, num_timesteps: int) -> np.ndarray:
    """Choose timesteps.

    Args:
        spacing: ``uniform`` is the reference's striding, whose count may differ from ``steps``;
            ``quad`` is DDIM's quadratic choice (arXiv:2010.02502, appendix D.2);
            ``linspace`` and ``trailing`` (arXiv:2305.08891, table 2) give exactly ``steps``,
            with and without the first training step.
        steps: Number of steps asked for, 1 ... ``num_timesteps``.
        num_timesteps: T, the number of training steps.

    Raises:
        UserError: Unknown spacing, or a step count outside the range.
    """
    check_steps(steps, num_timesteps)
    if spacing == "uniform":
        return _uniform(steps, num_timesteps)
    if spacing == "linspace":
        return np.round(np.linspace(num_timesteps - 1, 0, steps)[::-1]).astype(np.int64)
    if spacing == "trailing":
        return np.round(np.arange(1, steps + 1) * (num_timesteps / steps)).astype(np.int64) - 1
    if spacing == "quad":
        # Steps past the start repeat at small counts; each is visited once.
        root = np.linspace(0, np.sqrt(num_timesteps * 0.8), steps)
        return np.unique(np.minimum((root**2).astype(np.int64) + 1, num_timesteps - 1))
    raise UserError(f"spacing {spacing!r} given; expected one of {', '.join(SPACINGS)}")


def check_steps(steps: int, num_timesteps: int) -> None:
    """Hold that a count of sampling steps is 1 ... ``num_timesteps``.

    Raises:
        UserError: It is not.
    """
    if not 1 <= steps <= num_timesteps:
        raise UserError(
            f"{steps} sampling steps given; expected 1 to {num_timesteps}, "
            "the number of steps that the model was trained with"
        )


def _uniform(steps: int, num_timesteps: int) -> np.ndarray:
    stride = num_timesteps // steps
    timesteps = np.arange(0, num_timesteps, stride) + 1
    # The reference indexes past its table when the last step is T; that step is T-1 here.
    return np.unique(np.minimum(timesteps, num_timesteps - 1))

"""Restart sampling: arXiv:2306.14878. Heun's walk, part of which is walked again after noise."""

from __future__ import annotations

import numpy as np

from ldm.models.diffusion.k_samplers import HeunSampler
from ldm.process.sigmas import karras_between

LOW, HIGH = 0.1, 2.0
"""Noise levels between which the walk goes again: the paper's t_min and t_max for pictures."""


def plan(steps: int) -> tuple[int, int]:
    """Return how many steps a repetition has and how many there are (AUTOMATIC1111's choice).

    Example:
        >>> [plan(steps) for steps in (19, 20, 36, 50)]
        [(0, 0), (9, 1), (9, 2), (12, 2)]
    """
    if steps < 20:
        return 0, 0
    return (9, 1) if steps < 36 else (steps // 4, 2)


class RestartSampler(HeunSampler):
    """Heun's method that goes back to noise and down again.

    Noise takes errors away that were made before; the steps after make few of their own. S steps in
    all, repetitions included, take 2 S - 1 calls of the model; below 20 steps nothing is repeated
    and it is Heun's method. ``spacing`` is of the first way down; repetitions are spaced as Karras
    et al. do.
    """

    def make_schedule(
        self,
        ddim_num_steps: int,
        ddim_discretize: str | None = None,
        ddim_eta: float = 0.0,
        verbose: bool = True,
    ) -> None:
        length, times = plan(ddim_num_steps)
        # The whole count is made first, so that an impossible one is named as it was given.
        super().make_schedule(ddim_num_steps, ddim_discretize, ddim_eta, verbose)
        whole = self.sigmas
        if times:
            super().make_schedule(ddim_num_steps - length * times, ddim_discretize)
        low, high = (_nearest(self.sigmas[1:], level) for level in (LOW, HIGH))
        if not times or low >= high:  # a model whose noise does not reach so far
            self.sigmas = whole
            self._begins, self._ends = whole[1:], whole[:-1]
        else:
            again = karras_between(length + 1, low, high)[::-1]
            turn = int(np.searchsorted(self.sigmas, low))  # the steps from here on end below
            parts = [self.sigmas[: turn + 1], *[again] * times, self.sigmas[turn:]]
            self._begins = np.concatenate([part[1:] for part in parts])
            self._ends = np.concatenate([part[:-1] for part in parts])
        self.steps = ddim_num_steps

    @property
    def begins(self) -> np.ndarray:
        return self._begins

    @property
    def ends(self) -> np.ndarray:
        return self._ends


def _nearest(sigmas: np.ndarray, level: float) -> float:
    return float(sigmas[np.abs(sigmas - level).argmin()])

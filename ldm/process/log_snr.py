"""Noise processes in continuous time, as DPM-Solver reads them.

Symbols of arXiv:2211.01095: alpha_t scales the clean sample, sigma_t the noise, lambda_t =
log(alpha_t / sigma_t). Time runs from nearly 0 (clean) to 1 (noise).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Process(ABC):
    """A process that keeps variances: alpha_t^2 + sigma_t^2 = 1."""

    @abstractmethod
    def log_alpha(self, t: np.ndarray | float) -> np.ndarray:
        """Return log alpha_t."""

    @abstractmethod
    def time_of_log_alpha(self, log_alpha: np.ndarray | float) -> np.ndarray:
        """Return the time t of a log alpha_t."""

    def alpha(self, t: np.ndarray | float) -> np.ndarray:
        """Return alpha_t."""
        return np.exp(self.log_alpha(t))

    def sigma(self, t: np.ndarray | float) -> np.ndarray:
        """Return sigma_t."""
        return np.sqrt(-np.expm1(2.0 * self.log_alpha(t)))

    def lam(self, t: np.ndarray | float) -> np.ndarray:
        """Return lambda_t, half the log signal-to-noise ratio."""
        return self.log_alpha(t) - np.log(self.sigma(t))

    def time(self, lam: np.ndarray | float) -> np.ndarray:
        """Return the time t of a lambda_t."""
        # alpha^2 = 1 / (1 + exp(-2 lambda)), from alpha^2 + sigma^2 = 1.
        return self.time_of_log_alpha(-0.5 * np.logaddexp(0.0, -2.0 * np.asarray(lam)))


class ContinuousSchedule(Process):
    """A discrete schedule with log alpha_t linear between training steps, and on past the ends.

    Its times are 1/T, 2/T, ..., 1.

    Args:
        alphas_cumprod: Schedule (T,).
    """

    def __init__(self, alphas_cumprod: np.ndarray):
        self.log_alphas = 0.5 * np.log(np.asarray(alphas_cumprod, dtype=np.float64))
        self.num_timesteps = len(self.log_alphas)
        self.times = np.arange(1, self.num_timesteps + 1) / self.num_timesteps

    def log_alpha(self, t: np.ndarray | float) -> np.ndarray:
        left = self._left(np.searchsorted(self.times, t, side="right"))
        slope = np.diff(self.log_alphas)[left] * self.num_timesteps
        return self.log_alphas[left] + (np.asarray(t) - self.times[left]) * slope

    def time_of_log_alpha(self, log_alpha: np.ndarray | float) -> np.ndarray:
        left = self._left(np.searchsorted(-self.log_alphas, -np.asarray(log_alpha), side="right"))
        slope = np.diff(self.log_alphas)[left] * self.num_timesteps
        return self.times[left] + (np.asarray(log_alpha) - self.log_alphas[left]) / slope

    def _left(self, above: np.ndarray) -> np.ndarray:
        """Return the training step at the left of an interval, given how many are not above."""
        return np.clip(above - 1, 0, max(self.num_timesteps - 2, 0))

    def model_time(self, t: float) -> float:
        """Return what the model is given for a time: T - 1 at 1, 0 at 1/T, not rounded."""
        return (t - 1.0 / self.num_timesteps) * self.num_timesteps


class LinearProcess(Process):
    """Noise whose rate grows evenly in time: the VP process of arXiv:2011.13456, Eq. 33.

    Args:
        start: The rate beta at time 0.
        end: The same at time 1.
    """

    def __init__(self, start: float, end: float):
        self.start, self.slope = start, end - start

    def log_alpha(self, t: np.ndarray | float) -> np.ndarray:
        return -0.25 * np.square(t) * self.slope - 0.5 * np.asarray(t) * self.start

    def time_of_log_alpha(self, log_alpha: np.ndarray | float) -> np.ndarray:
        # The positive root of slope t^2 / 4 + start t / 2 + log alpha = 0, without cancellation.
        root = np.sqrt(self.start**2 - 4.0 * self.slope * np.asarray(log_alpha))
        return -4.0 * np.asarray(log_alpha) / (self.start + root)


class CosineProcess(Process):
    """alpha_t a cosine: arXiv:2102.09672, Eq. 17, in continuous time.

    Args:
        offset: The paper's s.
    """

    def __init__(self, offset: float = 0.008):
        self.offset = offset
        self.log_first = np.log(np.cos(self._angle(0.0)))

    def _angle(self, t: np.ndarray | float) -> np.ndarray:
        return (np.asarray(t) + self.offset) / (1.0 + self.offset) * np.pi / 2.0

    def log_alpha(self, t: np.ndarray | float) -> np.ndarray:
        return np.log(np.cos(self._angle(t))) - self.log_first

    def time_of_log_alpha(self, log_alpha: np.ndarray | float) -> np.ndarray:
        angle = np.arccos(np.exp(np.asarray(log_alpha) + self.log_first))
        return angle * 2.0 * (1.0 + self.offset) / np.pi - self.offset

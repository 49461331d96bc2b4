"""A discrete noise schedule read in continuous time, as DPM-Solver does.

Symbols of arXiv:2211.01095: alpha_t scales the clean sample, sigma_t the noise, lambda_t =
log(alpha_t / sigma_t). Time runs from 1/T (clean) to 1 (noise).
"""

from __future__ import annotations

import numpy as np


class ContinuousSchedule:
    """Interpolate log alpha_t linearly between training steps, and extend it at the ends.

    Args:
        alphas_cumprod: Schedule (T,).
    """

    def __init__(self, alphas_cumprod: np.ndarray):
        self.log_alphas = 0.5 * np.log(np.asarray(alphas_cumprod, dtype=np.float64))
        self.num_timesteps = len(self.log_alphas)
        self.times = np.arange(1, self.num_timesteps + 1) / self.num_timesteps

    def log_alpha(self, t: np.ndarray | float) -> np.ndarray:
        """Return log alpha_t."""
        left = np.clip(
            np.searchsorted(self.times, t, side="right") - 1, 0, max(self.num_timesteps - 2, 0)
        )
        slope = np.diff(self.log_alphas)[left] * self.num_timesteps
        return self.log_alphas[left] + (np.asarray(t) - self.times[left]) * slope

    def alpha(self, t: np.ndarray | float) -> np.ndarray:
        """Return alpha_t."""
        return np.exp(self.log_alpha(t))

    def sigma(self, t: np.ndarray | float) -> np.ndarray:
        """Return sigma_t."""
        return np.sqrt(-np.expm1(2.0 * self.log_alpha(t)))

    def lam(self, t: np.ndarray | float) -> np.ndarray:
        """Return lambda_t, half the log signal-to-noise ratio."""
        return self.log_alpha(t) - np.log(self.sigma(t))

    def model_time(self, t: float) -> float:
        """Return what the model is given for a time: T - 1 at 1, 0 at 1/T, not rounded."""
        return (t - 1.0 / self.num_timesteps) * self.num_timesteps

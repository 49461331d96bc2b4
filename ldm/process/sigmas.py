"""Noise levels in place of times, as Karras et al. read a diffusion process: arXiv:2206.00364.

Symbols: with a = sqrt(alphas_cumprod) and s = sqrt(1 - alphas_cumprod), a sample x = a x0 + s eps
divided by a is x0 + sigma eps, so sigma = s / a. A grid of sigmas lies clean end first, as the
steps of a sampler do: step i begins at entry i + 1 and ends at entry i; entry 0 is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ldm.errors import UserError
from ldm.process.spacing import check_steps, rule_of, trailing

RHO = 7.0
"""How strongly ``karras`` crowds the small sigmas; the paper's choice for images."""


class SigmaSchedule:
    """A model's noise levels, log sigma linear in time between training steps.

    Args:
        alphas_cumprod: Schedule (T,).

    Raises:
        UserError: The schedule does not fall strictly, or reaches 0 or 1, where sigma ends.
    """

    def __init__(self, alphas_cumprod: np.ndarray):
        cumprod = np.asarray(alphas_cumprod, dtype=np.float64)
        if not (np.diff(cumprod, prepend=1.0, append=0.0) < 0).all():
            raise UserError(
                "the model's alphas_cumprod was given to a k-sampler; expected numbers that fall "
                "strictly from below 1 to above 0; take the ddim sampler"
            )
        self.log_sigmas = 0.5 * (np.log1p(-cumprod) - np.log(cumprod))
        self.times = np.arange(len(cumprod))

    def sigma(self, t: np.ndarray | float) -> np.ndarray:
        """Return sigma at model times 0 ... T-1, which need not be whole."""
        return np.exp(np.interp(t, self.times, self.log_sigmas))

    def time(self, sigma: np.ndarray | float) -> np.ndarray:
        """Return the model time of sigmas, not rounded; outside the schedule its nearest end."""
        return np.interp(np.log(sigma), self.log_sigmas, self.times)


def vp_scales(sigma: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Return a and s, a^2 + s^2 = 1, of sigmas from 0 on."""
    a = 1.0 / np.sqrt(1.0 + np.square(sigma))
    return a, sigma * a


def make_sigmas(spacing: str, steps: int, schedule: SigmaSchedule) -> np.ndarray:
    """Choose noise levels (steps + 1,), growing from 0.

    Args:
        spacing: A name in ``ldm.settings.samplers.SPACINGS`` that has a rule in sigmas.
        steps: Number of steps, 1 ... T.
        schedule: The model's.

    Raises:
        UserError: Unknown spacing, or a step count outside the range.
    """
    check_steps(steps, len(schedule.times))
    return np.append(rule_of(spacing, "sigmas")(steps, schedule), 0.0)[::-1]


# From noise to clean, so that a single step is one from the noisy end.


def even_times(steps: int, schedule: SigmaSchedule) -> np.ndarray:
    """Return the sigmas of model times evenly from T-1 to 0, not rounded, as k-diffusion has."""
    return schedule.sigma(np.linspace(len(schedule.times) - 1, 0, steps))


def trailing_times(steps: int, schedule: SigmaSchedule) -> np.ndarray:
    """Return sigmas without that of the first training step (arXiv:2305.08891, table 2)."""
    return schedule.sigma(trailing(steps, len(schedule.times))[::-1])


def karras(steps: int, schedule: SigmaSchedule) -> np.ndarray:
    """Return sigmas evenly spaced in sigma ** (1 / 7) (arXiv:2206.00364, Eq. 5)."""
    low, high = np.exp(schedule.log_sigmas[[0, -1]] / RHO)
    return np.linspace(high, low, steps) ** RHO


def karras_between(count: int, low: float, high: float) -> np.ndarray:
    """Return ``count`` sigmas, two or more, spaced as by ``karras``, exactly from high to low."""
    sigmas = np.linspace(high ** (1 / RHO), low ** (1 / RHO), count) ** RHO
    sigmas[[0, -1]] = high, low
    return sigmas


def exponential(steps: int, schedule: SigmaSchedule) -> np.ndarray:
    """Return sigmas evenly spaced in their logarithm, between the model's own, as k-diffusion."""
    return np.exp(np.linspace(*schedule.log_sigmas[[-1, 0]], steps))


def sgm_uniform(steps: int, schedule: SigmaSchedule) -> np.ndarray:
    """Return sigmas of even times without the cleanest: ``steps + 1`` of them, the last left out.

    So Stability AI's generative-models have it, and AUTOMATIC1111's "SGM Uniform".
    """
    return schedule.sigma(np.linspace(len(schedule.times) - 1, 0, steps + 1)[:-1])


ALIGNED = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
"""The ends of the ten steps that are optimal for Stable Diffusion 1.5 by arXiv:2404.14507."""


def align_your_steps(steps: int, schedule: SigmaSchedule) -> np.ndarray:
    """Return ``ALIGNED``, for other counts than ten interpolated in log sigma, as its authors do.

    The table's ends are laid on the model's own, which for Stable Diffusion 1 they are to four
    digits. The last entry gives way to 0, where the walk ends.
    """
    low, high = schedule.log_sigmas[[0, -1]]
    table = np.log(ALIGNED)
    table = low + (table - table[-1]) * (high - low) / (table[0] - table[-1])
    at = np.linspace(0, len(table) - 1, steps + 1)[:-1]
    return np.exp(np.interp(at, np.arange(len(table)), table))


BETA_SHAPE = 0.6
"""Both parameters of the distribution of ``beta``; the paper's choice."""


def beta(steps: int, schedule: SigmaSchedule) -> np.ndarray:
    """Return sigmas of times at even quantiles of Beta(0.6, 0.6): more steps at both ends.

    arXiv:2407.12173, from the noisiest time down, the quantile 0 left out, as ComfyUI has it; not
    rounded to training steps.
    """
    quantiles = beta_quantiles(1.0 - np.arange(steps) / steps, BETA_SHAPE)
    return schedule.sigma(quantiles * (len(schedule.times) - 1))


def beta_quantiles(shares: np.ndarray, shape: float) -> np.ndarray:
    """Return where Beta(shape, shape)'s distribution function is each of ``shares``, 0 ... 1.

    Below 1/2 the function is the integral of x^(shape - 1) (1 - x)^(shape - 1), which over
    w = x^shape is smooth; above it follows by symmetry.
    """
    w = np.linspace(0.0, 0.5**shape, 4001)
    heights = (1.0 - w ** (1.0 / shape)) ** (shape - 1.0)
    areas = np.append(0.0, np.cumsum((heights[1:] + heights[:-1]) / 2))
    lower = np.interp(np.minimum(shares, 1 - shares), 0.5 * areas / areas[-1], w) ** (1.0 / shape)
    return np.where(shares <= 0.5, lower, 1.0 - lower)


def ancestral_split(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """Split a step to ``sigma_next`` into a longer one and the noise that makes up for it.

    Returns:
        The sigma to step to and that of the noise to add after; their squares add up to that of
        ``sigma_next``. The noise is DDIM's (arXiv:2010.02502, Eq. 16) over a: none at eta 0,
        DDPM's posterior (arXiv:2006.11239, Eq. 7) at eta 1.
    """
    added = eta * sigma_next * (1.0 - (sigma_next / sigma) ** 2) ** 0.5
    return max(sigma_next**2 - added**2, 0.0) ** 0.5, added


def adams_bashforth(
    nodes: Sequence[float],
    end: float,
    density: Callable[[np.ndarray], np.ndarray] = np.ones_like,
) -> np.ndarray:
    """Return weights w: sum(w * f(nodes)) is the integral of f's interpolation to ``end``.

    Args:
        nodes: Where f is known, the newest first; the integral begins there. All different.
        end: Where it ends.
        density: What the interpolation is multiplied by under the integral; smooth.

    The Lagrange polynomials, of degree ``len(nodes) - 1``, are integrated by Gauss's rule, which
    is exact for them and, unlike their coefficients, loses no digits where nodes lie close. Twelve
    points more serve the density: with e^u over a length of 2, 1e-15 is missing.
    """
    more = 0 if density is np.ones_like else 12
    points, weights = np.polynomial.legendre.leggauss((len(nodes) + 1) // 2 + more)
    half = 0.5 * (end - nodes[0])
    at = nodes[0] + half * (points + 1.0)
    weights = weights * density(at)
    integrals = []
    for j, own in enumerate(nodes):
        ratios = [(at - other) / (own - other) for i, other in enumerate(nodes) if i != j]
        integrals.append(half * np.sum(weights * np.prod([np.ones_like(at), *ratios], axis=0)))
    return np.array(integrals)

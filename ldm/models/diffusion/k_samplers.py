"""The k-samplers: Euler, Heun and DPM2, Euler and DPM2 with noise, LMS and DEIS.

They integrate dy / dsigma = (y - x0) / sigma, y = x / a: the probability flow of
arXiv:2206.00364, Eq. 1 and 3, over sigma itself (symbols: ``ldm.process.sigmas``).
The walk itself holds x as all samplers do, so masks, img2img and previews are the same.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.denoiser import Denoiser, Step, StepRule
from ldm.models.diffusion.k_denoiser import KDenoiser
from ldm.models.diffusion.sampler import Sampler
from ldm.process.sigmas import (
    SigmaSchedule,
    adams_bashforth,
    ancestral_split,
    make_sigmas,
    vp_scales,
)
from ldm.rng import NoiseSource
from ldm.types import EpsModel

logger = logging.getLogger(__name__)

Advance = Callable[[Tensor, float, float], Step]
"""From y (B,C,h,w) at one sigma to a smaller one; the step holds y, x0 and the slope at its start.

Where the step ends at sigma 0 nothing is left to ask the model there.
"""


class KSampler(Sampler):
    """Base of the k-samplers: a grid of sigmas, and a subclass's way to advance along it."""

    def make_schedule(
        self,
        ddim_num_steps: int,
        ddim_discretize: str | None = None,
        ddim_eta: float = 0.0,
        verbose: bool = True,  # noqa: ARG002 - kept for CompVis
    ) -> None:
        if ddim_eta != 0:
            logger.warning("ddim_eta %s is ignored: the k-samplers have no use for it", ddim_eta)
        levels = SigmaSchedule(self.model.alphas_cumprod.detach().float().cpu().numpy())
        # Step i begins at sigmas[i + 1] and ends at sigmas[i].
        self.sigmas = make_sigmas(ddim_discretize or self.spacing, ddim_num_steps, levels)
        self.levels, self.steps = levels, ddim_num_steps

    @property
    def begins(self) -> np.ndarray:
        """The sigma where each step begins (steps,)."""
        return self.sigmas[1:]

    @property
    def ends(self) -> np.ndarray:
        """The sigma where each step ends (steps,); noise is added up to where the next begins."""
        return self.sigmas[:-1]

    def time(self, index: int) -> float:
        return float(self.levels.time(self.begins[index]))

    @abstractmethod
    def new_advance(self, denoise: KDenoiser) -> Advance:
        """Return the way to take a step, with a history of its own for one walk."""

    def new_rule(self, denoiser: Denoiser, total: int) -> StepRule:  # noqa: ARG002
        denoise = KDenoiser(denoiser, self.levels)
        advance, begins, ends = self.new_advance(denoise), self.begins, self.ends

        def rule(x: Tensor, index: int) -> Step:
            sigma, sigma_next = float(begins[index]), float(ends[index])
            y, x0, slope = advance(x / float(vp_scales(sigma)[0]), sigma, sigma_next)
            then = float(begins[index - 1]) if index else sigma_next
            if then > sigma_next:
                y = y + (then**2 - sigma_next**2) ** 0.5 * denoise.noise(y)
            return Step(y * float(vp_scales(then)[0]), x0, slope)

        return rule

    def renoise(self, x0: Tensor, index: int, noise: Tensor) -> Tensor:
        a, s = vp_scales(float(self.begins[index]))
        return float(a) * x0 + float(s) * noise

    def encoding(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scales of exactly where ``decode`` with ``t_start=t`` begins; 0 is clean."""
        scales = vp_scales(np.append(0.0, self.begins)[t.clamp(0, self.steps).numpy()])
        a, s = (torch.as_tensor(v, dtype=torch.float32) for v in scales)
        return a, s


class EulerSampler(KSampler):
    """Euler's method: first order, S calls of the model.

    arXiv:2206.00364, Algorithm 1 without its second-order correction, for sigma(t) = t, s(t) = 1.
    """

    def new_advance(self, denoise: KDenoiser) -> Advance:
        def advance(y: Tensor, sigma: float, sigma_next: float) -> Step:
            x0, slope = denoise(y, sigma)
            # y_next = y + (sigma_next - sigma) dy / dsigma
            return Step(y + (sigma_next - sigma) * slope, x0, slope)

        return advance


class HeunSampler(KSampler):
    """Heun's method: second order, 2 S - 1 calls of the model.

    arXiv:2206.00364, Algorithm 1 for sigma(t) = t, s(t) = 1: Algorithm 2 without its churn.
    """

    def new_advance(self, denoise: KDenoiser) -> Advance:
        def advance(y: Tensor, sigma: float, sigma_next: float) -> Step:
            x0, slope = denoise(y, sigma)
            trial = y + (sigma_next - sigma) * slope  # Euler's step
            if sigma_next == 0:
                return Step(trial, x0, slope)
            # The trapezoidal rule: the mean of the slopes at both ends.
            mean = (slope + denoise(trial, sigma_next)[1]) / 2
            return Step(y + (sigma_next - sigma) * mean, x0, slope)

        return advance


class DPM2Sampler(KSampler):
    """DPM-Solver-2 (arXiv:2206.00927, Algorithm 1): second order, 2 S - 1 calls of the model.

    As in k-diffusion the paper's midpoint in log sigma is kept, and the slope met there is
    followed in sigma: the midpoint rule.
    """

    def new_advance(self, denoise: KDenoiser) -> Advance:
        def advance(y: Tensor, sigma: float, sigma_next: float) -> Step:
            x0, slope = denoise(y, sigma)
            if sigma_next == 0:
                return Step(y + (sigma_next - sigma) * slope, x0, slope)
            # The paper's (lambda_s + lambda_t) / 2: lambda is -log sigma.
            middle = (sigma * sigma_next) ** 0.5
            _, slope_there = denoise(y + (middle - sigma) * slope, middle)
            return Step(y + (sigma_next - sigma) * slope_there, x0, slope)

        return advance


class Noisy(KSampler):
    """A k-sampler whose steps add noise.

    Args:
        model: As for ``Sampler``.
        schedule: Kept for CompVis.
        spacing: As for ``Sampler``.
        noise: As for ``Sampler``.
        eta: Share of the noise that is added; 0 leaves the plain sampler.
        **kwargs: As for ``Sampler``.
    """

    def __init__(
        self,
        model: EpsModel,
        schedule: str = "linear",
        *,
        spacing: str = "uniform",
        noise: NoiseSource | None = None,
        eta: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(model, schedule, spacing=spacing, noise=noise, **kwargs)
        if not 0.0 <= eta <= 1.0:
            raise UserError(f"eta {eta} given; expected a number from 0 to 1")
        self.eta = eta


class Ancestral(Noisy):
    """Makes a sampler's steps longer and adds noise after each: mixed in before that sampler.

    ``eta`` is the share of the noise of DDPM's posterior.
    """

    def new_advance(self, denoise: KDenoiser) -> Advance:
        plain = super().new_advance(denoise)

        def advance(y: Tensor, sigma: float, sigma_next: float) -> Step:
            # sigma_next^2 = down^2 + added^2: step to ``down``, then add noise of ``added``.
            down, added = ancestral_split(sigma, sigma_next, self.eta)
            step = plain(y, sigma, down)
            if sigma_next == 0:
                return step
            # Drawn at eta 0 too: the stream then moves as far whatever eta is.
            return step._replace(x=step.x + added * denoise.noise(y))

        return advance


class EulerAncestralSampler(Ancestral, EulerSampler):
    """Euler's method with noise: at eta 1 DDPM's steps between the chosen sigmas.

    At eta 1 it is the ancestral sampling of arXiv:2011.13456, appendix F, for the variance
    exploding process, which over a is DDPM's Algorithm 2 (arXiv:2006.11239).
    """


class DPM2AncestralSampler(Ancestral, DPM2Sampler):
    """DPM2 with noise: 2 S - 1 calls of the model."""


class LMSSampler(KSampler):
    """Linear multistep: Adams-Bashforth on uneven sigmas, of order 4 once it has 4 slopes.

    S calls of the model. The first three steps have fewer slopes to go by and a lower order.
    Multistep formulas with variable steps: Hairer, Nørsett and Wanner, "Solving Ordinary
    Differential Equations I", section III.5.
    """

    ORDER = 4

    def new_advance(self, denoise: KDenoiser) -> Advance:
        sigmas: list[float] = []  # of the last steps' beginnings, newest first
        slopes: list[Tensor] = []

        def advance(y: Tensor, sigma: float, sigma_next: float) -> Step:
            x0, slope = denoise(y, sigma)
            sigmas[:] = [sigma, *sigmas][: self.ORDER]
            slopes[:] = [slope, *slopes][: self.ORDER]
            # y_next - y is the integral of the polynomial through the last slopes.
            weights = self.weights(sigmas, sigma_next)
            moved = sum(float(w) * d for w, d in zip(weights, slopes, strict=True))
            return Step(y + moved, x0, slope)

        return advance

    def weights(self, sigmas: Sequence[float], end: float) -> np.ndarray:
        """Return the weight of each slope, known at ``sigmas`` (newest first), in a step."""
        return adams_bashforth(sigmas, end)


class DEISSampler(LMSSampler):
    """DEIS (arXiv:2204.13902), of order 3 once it has 3 slopes. S calls of the model.

    The polynomial through the slopes is one in log sigma, as diffusers has it ("logrho"), where
    the paper's tAB has one in time and its rhoAB, which is LMS, one in sigma.
    """

    ORDER = 3

    def weights(self, sigmas: Sequence[float], end: float) -> np.ndarray:
        if end == 0:  # which has no logarithm: straight along the newest slope
            return np.append(-sigmas[0], np.zeros(len(sigmas) - 1))
        # The integral over sigma = e^u of a polynomial in u.
        return adams_bashforth(np.log(sigmas), np.log(end), np.exp)

"""DPM-Solver++ on noise levels, as k-diffusion steps: 2M, 3M and 2S, and their forms with noise.

They solve dy / dlambda = x0 - y, with lambda = -log sigma, exactly but for x0, which they take from
one, two or three estimates (arXiv:2211.01095, Proposition 4.1 over alpha). Over a step h:

    y_next = e^-h y + (1 - e^-h) x0 + phi_2 x0' + ...

With noise (the paper's SDE-DPM-Solver++, and k-diffusion) a step goes as if it were (1 + eta) h
long, and noise makes up for what it took too much. Symbols: ``ldm.models.diffusion.k_samplers``.
"""

from __future__ import annotations

import math

from torch import Tensor

from ldm.models.diffusion.denoiser import Step
from ldm.models.diffusion.k_denoiser import KDenoiser
from ldm.models.diffusion.k_samplers import Advance, Ancestral, KSampler, Noisy
from ldm.process.sigmas import ancestral_split

Estimates = list[tuple[float, Tensor]]
"""(lambda, x0) of steps that were taken, the newest first."""


def toward(y: Tensor, x0: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Go on the straight line to x0: e^-h y + (1 - e^-h) x0, for e^-h = sigma_next / sigma."""
    return x0 + (sigma_next / sigma) * (y - x0)


class Multistep(KSampler):
    """Base of the multistep solvers: S steps take S calls of the model.

    Attributes:
        ORDER: How many estimates a step uses once it has them.
        eta: Share of noise; 0 solves the probability flow.
    """

    ORDER = 2
    eta = 0.0

    def new_advance(self, denoise: KDenoiser) -> Advance:
        known: Estimates = []

        def advance(y: Tensor, sigma: float, sigma_next: float) -> Step:
            x0, slope = denoise(y, sigma)
            if sigma_next == 0:  # infinitely far in lambda: only the newest estimate counts
                return Step(x0, x0, slope)
            known[:] = [(-math.log(sigma), x0), *known][: self.ORDER]
            h = math.log(sigma / sigma_next)
            longer = (1.0 + self.eta) * h
            y_next = math.exp(-longer) * y - math.expm1(-longer) * x0
            y_next = y_next + self.beyond(known, h, longer)
            if isinstance(self, Noisy):  # at eta 0 too: the stream moves as far whatever it is
                added = sigma_next * (-math.expm1(-2.0 * self.eta * h)) ** 0.5
                y_next = y_next + added * denoise.noise(y)
            return Step(y_next, x0, slope)

        return advance

    def beyond(self, known: Estimates, h: float, longer: float) -> Tensor | float:
        """Return what the change of the estimates adds to a step of h, taken ``longer``."""
        if len(known) == 1:
            return 0.0
        # arXiv:2211.01095, Algorithm 2: x0 + (x0 - x0_before) / (2 r) in place of x0.
        (lam, x0), (lam_before, x0_before) = known
        r = (lam - lam_before) / h
        return -math.expm1(-longer) * (x0 - x0_before) / (2.0 * r)


class DPMpp2MSampler(Multistep):
    """DPM-Solver++(2M): second order, S calls of the model. arXiv:2211.01095, Algorithm 2.

    The first step and the last, to sigma 0, are of first order.
    """


class DPMpp2MSDESampler(Noisy, Multistep):
    """DPM-Solver++(2M) with noise: SDE-DPM-Solver++(2M) of arXiv:2211.01095, at eta 1."""


class DPMpp3MSampler(Multistep):
    """DPM-Solver++(3M): third order once it has 3 estimates, S calls of the model."""

    ORDER = 3

    def beyond(self, known: Estimates, h: float, longer: float) -> Tensor | float:
        """Return phi_2 x0' + phi_3 x0'', with derivatives by differences of the estimates.

        phi_2 = 1 - (1 - e^-h) / h and phi_3 = phi_2 / h - 1/2: integrals of the exponential's
        weight times t and t^2 / 2.
        """
        if len(known) == 1:
            return 0.0
        phi_2 = math.expm1(-longer) / longer + 1.0
        r0 = (known[0][0] - known[1][0]) / h
        first = (known[0][1] - known[1][1]) / r0  # x0' h, between the two newest
        if len(known) == 2:
            return phi_2 * first
        r1 = (known[1][0] - known[2][0]) / h
        change = (first - (known[1][1] - known[2][1]) / r1) / (r0 + r1)
        return phi_2 * (first + r0 * change) - (phi_2 / longer - 0.5) * change


class DPMpp3MSDESampler(Noisy, DPMpp3MSampler):
    """DPM-Solver++(3M) with noise: k-diffusion's, at eta 1."""


class DPMpp2MSDEHeunSampler(DPMpp3MSDESampler):
    """The 3M form with two estimates: 2M with noise, its second term exact ("Heun")."""

    ORDER = 2


class DPMpp2SSampler(KSampler):
    """DPM-Solver++(2S): second order, 2 S - 1 calls. arXiv:2211.01095, Algorithm 1, r = 1/2."""

    def new_advance(self, denoise: KDenoiser) -> Advance:
        def advance(y: Tensor, sigma: float, sigma_next: float) -> Step:
            x0, slope = denoise(y, sigma)
            if sigma_next == 0:
                return Step(x0, x0, slope)
            middle = (sigma * sigma_next) ** 0.5  # half of h
            x0_there, _ = denoise(toward(y, x0, sigma, middle), middle)
            return Step(toward(y, x0_there, sigma, sigma_next), x0, slope)

        return advance


class DPMpp2SAncestralSampler(Ancestral, DPMpp2SSampler):
    """DPM-Solver++(2S) with noise after each step: 2 S - 1 calls of the model."""


class DPMppSDESampler(Noisy):
    """DPM-Solver++ with noise in the middle of a step as well: 2 S - 1 calls of the model.

    k-diffusion's ``sample_dpmpp_sde``. The noise of the first half is part of the whole step's, as
    on one Brownian path over sigma; so two draws make a step.
    """

    def new_advance(self, denoise: KDenoiser) -> Advance:
        def advance(y: Tensor, sigma: float, sigma_next: float) -> Step:
            x0, slope = denoise(y, sigma)
            if sigma_next == 0:
                return Step(x0, x0, slope)
            middle = (sigma * sigma_next) ** 0.5
            first, second = denoise.noise(y), denoise.noise(y)
            x0_there, _ = denoise(self._noisy_step(y, x0, (sigma, middle), first), middle)
            share = (sigma - middle) / (sigma - sigma_next)
            whole = share**0.5 * first + (1.0 - share) ** 0.5 * second
            return Step(self._noisy_step(y, x0_there, (sigma, sigma_next), whole), x0, slope)

        return advance

    def _noisy_step(
        self, y: Tensor, x0: Tensor, sigmas: tuple[float, float], noise: Tensor
    ) -> Tensor:
        down, added = ancestral_split(*sigmas, self.eta)
        return toward(y, x0, sigmas[0], down) + added * noise

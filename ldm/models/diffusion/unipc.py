"""UniPC, a predictor and a corrector that need no call more: arXiv:2302.04867.

Over lambda = -log sigma, from s to t with h = lambda_t - lambda_s, for estimates of x0:
y_t = e^-h y_s + (1 - e^-h) x0_s - B sum_i rho_i D_i, with D_i = (x0_i - x0_s) / r_i and
r_i = (lambda_i - lambda_s) / h. The predictor's i are earlier steps; the corrector has t as well.
Symbols of y and sigma: ``ldm.models.diffusion.k_samplers``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ldm.errors import UserError
from ldm.models.diffusion.denoiser import Step
from ldm.models.diffusion.k_denoiser import KDenoiser
from ldm.models.diffusion.k_dpmpp import Estimates, toward
from ldm.models.diffusion.k_samplers import Advance, KSampler
from ldm.types import EpsModel

Variant = Literal["bh1", "bh2"]


def scale_of(h: float, variant: Variant) -> float:
    """Return B: -h for ``bh1``, e^-h - 1 for ``bh2``; the paper's B(h) with data prediction."""
    return -h if variant == "bh1" else math.expm1(-h)


def weights(ratios: Sequence[float], h: float, variant: Variant) -> np.ndarray:
    """Return the rho_i of ``ratios`` r_i, which make the step exact for polynomials.

    sum_i rho_i r_i^(n - 1) = n! z phi_(n + 1)(z) / B for n = 1, 2, ..., with z = -h. A single one
    is 1/2 whatever h is, which the paper allows at order 2.
    """
    if len(ratios) == 1:
        return np.array([0.5])
    z = -h
    b, phi = [], math.expm1(z)  # z phi_1(z)
    for n in range(1, len(ratios) + 1):
        phi = phi / z - 1.0 / math.factorial(n)
        b.append(math.factorial(n) * phi / scale_of(h, variant))
    return np.linalg.solve(np.vander(ratios, increasing=True).T, b)


class UniPCSampler(KSampler):
    """UniPC: order 3 with B(h) = h, as AUTOMATIC1111 and ComfyUI draw. S calls of the model.

    Args:
        model: As for ``Sampler``.
        schedule: Kept for CompVis.
        order: Of the predictor, 1 to 3; the corrector's is one more.
        variant: B(h), see ``scale_of``.
        **kwargs: As for ``Sampler``.

    Raises:
        UserError: No such order or variant.
    """

    ORDER: int = 3
    VARIANT: Variant = "bh1"

    def __init__(
        self,
        model: EpsModel,
        schedule: str = "linear",
        *,
        order: int | None = None,
        variant: Variant | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, schedule, **kwargs)
        self.order, self.variant = order or self.ORDER, variant or self.VARIANT
        if self.order not in (1, 2, 3) or self.variant not in ("bh1", "bh2"):
            raise UserError(
                f"order {self.order} and variant {self.variant!r} given to UniPC; expected an order"
                " of 1 to 3 and bh1 or bh2"
            )

    def new_advance(self, denoise: KDenoiser) -> Advance:
        known: Estimates = []
        taken: list[_Prediction] = []  # the last step's

        def advance(y: Tensor, sigma: float, sigma_next: float) -> Step:
            x0, slope = denoise(y, sigma)
            if taken:
                # What is added, and not the corrected sample: masks may have changed y.
                y = y + taken.pop().correction(x0)
            if sigma_next == 0:
                return Step(x0, x0, slope)
            known[:] = [(-math.log(sigma), x0), *known][: self.order]
            prediction = _Prediction(known, math.log(sigma / sigma_next), self.variant)
            taken.append(prediction)
            return Step(toward(y, x0, sigma, sigma_next) + prediction.beyond(), x0, slope)

        return advance


class UniPCBH2Sampler(UniPCSampler):
    """UniPC of order 2 with B(h) = e^h - 1: the paper's choice under guidance, and diffusers'."""

    ORDER = 2
    VARIANT = "bh2"


class _Prediction:
    """One step's terms beyond the first, and what they become when its end is known.

    Args:
        known: Estimates at the step's beginning and before, as many as its order.
        h: Its length in lambda.
        variant: B(h).
    """

    def __init__(self, known: Estimates, h: float, variant: Variant):
        (lam, self.x0), *earlier = known
        ratios = [(lam_before - lam) / h for lam_before, _ in earlier]
        pairs = zip(earlier, ratios, strict=True)
        self.slopes = [(x0_before - self.x0) / r for (_, x0_before), r in pairs]
        self.scale = scale_of(h, variant)
        self.predicted = weights(ratios, h, variant) if ratios else np.zeros(0)
        self.corrected = weights([*ratios, 1.0], h, variant)

    def beyond(self) -> Tensor | float:
        """Return the predictor's terms."""
        return -self.scale * _sum(self.predicted, self.slopes)

    def correction(self, x0: Tensor) -> Tensor:
        """Return how far the corrector's end is from the predictor's, given x0 there."""
        change = _sum(self.corrected[:-1] - self.predicted, self.slopes)
        return -self.scale * (change + float(self.corrected[-1]) * (x0 - self.x0))


def _sum(factors: np.ndarray, terms: Sequence[Tensor]) -> Tensor | float:
    return sum((float(f) * term for f, term in zip(factors, terms, strict=True)), 0.0)

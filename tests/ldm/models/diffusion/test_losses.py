"""The loss of the hub beside the papers' formulas, on fixed inputs, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_model import CONFIG

from ldm.models.diffusion.ddpm import DDPM
from ldm.process.weighting import variational_weights

KINDS = ("eps", "x0", "v")
STEPS = np.array([1, 2, 40, 500, 999])
TOLERANCE = 1e-5


def betas() -> np.ndarray:
    """Return SD v1's schedule (1000,): even steps of the square root."""
    return np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2


class Process:
    """The paper's symbols at ``STEPS``, shaped (5, 1, 1, 1), from nothing but the betas."""

    def __init__(self, v_posterior: float = 0.0):
        beta, cumprod = betas(), np.cumprod(1 - betas())
        column = (len(STEPS), 1, 1, 1)
        self.beta = beta[STEPS].reshape(column)
        self.alpha = 1 - self.beta
        self.cumprod = cumprod[STEPS].reshape(column)
        self.before = cumprod[STEPS - 1].reshape(column)
        smallest = (1 - self.before) / (1 - self.cumprod) * self.beta
        self.variance = (1 - v_posterior) * smallest + v_posterior * self.beta

    def noised(self, x0: np.ndarray, eps: np.ndarray) -> np.ndarray:
        """Return a sample at t: DDPM Eq. 4."""
        return self.cumprod**0.5 * x0 + (1 - self.cumprod) ** 0.5 * eps

    def posterior_mean(self, x0: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the mean of q(x_{t-1} | x_t, x0): DDPM Eq. 7."""
        of_x0 = self.before**0.5 * self.beta / (1 - self.cumprod)
        of_x = self.alpha**0.5 * (1 - self.before) / (1 - self.cumprod)
        return of_x0 * x0 + of_x * x

    def predicted_mean(self, eps: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the mean of p(x_{t-1} | x_t): DDPM Eq. 11."""
        return (x - self.beta / (1 - self.cumprod) ** 0.5 * eps) / self.alpha**0.5

    def target(self, kind: str, x0: np.ndarray, eps: np.ndarray) -> np.ndarray:
        """Return what a network of ``kind`` is to predict; v: arXiv:2202.00512, Eq. 10."""
        v = self.cumprod**0.5 * eps - (1 - self.cumprod) ** 0.5 * x0
        return {"eps": eps, "x0": x0, "v": v}[kind]

    def weight(self, kind: str) -> np.ndarray:
        """Return the bound's weights: DDPM Eq. 12; of x0 the reference's; of v all 1."""
        if kind == "v":
            return np.ones_like(self.beta)
        if kind == "x0":
            return 0.5 * self.cumprod**0.5 / (2 - self.cumprod)
        return self.beta**2 / (2 * self.variance * self.alpha * (1 - self.cumprod))


@pytest.fixture(scope="module")
def inputs():
    """Return x0, noise and the network's output (5, 4, 6, 6)."""
    generator = np.random.default_rng(0)
    return tuple(generator.standard_normal((3, len(STEPS), 4, 6, 6)))


def loss_of(inputs, *, latent: bool = False, **settings) -> dict[str, float]:
    """Return the hub's loss and its parts where the network answers with the fixed output.

    That of latents is weighed by ``logvar`` too.
    """
    x0, noise, out = (torch.tensor(value, dtype=torch.float32) for value in inputs)
    unet = CONFIG["model"]["params"]["unet_config"]
    model = DDPM(unet, given_betas=betas(), use_ema=False, **settings).eval()
    model.apply_model = lambda x, t, cond: out
    t = torch.tensor(STEPS)
    latents = model.loss_at(x0, None, t, noise)
    loss, parts = latents if latent else model.p_losses(x0, t, noise)
    return {name: value.item() for name, value in {**parts, "total": loss}.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_simple_loss_is_equation_14(inputs, kind):
    x0, eps, out = inputs
    expected = np.square(out - Process().target(kind, x0, eps)).mean()
    found = loss_of(inputs, parameterization=kind)
    assert found["total"] == pytest.approx(expected, rel=TOLERANCE)
    assert found["val/loss_simple"] == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("v_posterior", [0.0, 0.3])
def test_the_bound_has_the_references_weights(inputs, kind, v_posterior):
    x0, eps, out = inputs
    process = Process(v_posterior)
    error = np.square(out - process.target(kind, x0, eps))
    expected = (process.weight(kind) * error).mean()
    found = loss_of(inputs, parameterization=kind, v_posterior=v_posterior)
    assert found["val/loss_vlb"] == pytest.approx(expected, rel=TOLERANCE)


def test_the_bound_of_eps_is_the_divergence_that_equation_12_stands_for(inputs):
    """KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)) of two normals of one variance: Eq. 5 and 8."""
    x0, eps, out = inputs
    process = Process()
    x = process.noised(x0, eps)
    gap = process.posterior_mean(x0, x) - process.predicted_mean(out, x)
    expected = (np.square(gap) / (2 * process.variance)).mean()
    assert loss_of(inputs)["val/loss_vlb"] == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_weighted_sum_of_both(inputs, kind):
    x0, eps, out = inputs
    process = Process()
    error = np.square(out - process.target(kind, x0, eps)).mean(axis=(1, 2, 3))
    bound = (process.weight(kind).ravel() * error).mean()
    expected = 0.7 * (error / np.exp(0.2) + 0.2).mean() + 0.01 * bound
    weights = {"l_simple_weight": 0.7, "original_elbo_weight": 0.01, "logvar_init": 0.2}
    found = loss_of(inputs, latent=True, parameterization=kind, learn_logvar=True, **weights)
    assert found["total"] == pytest.approx(expected, rel=TOLERANCE)
    assert found["val/loss"] == pytest.approx(expected, rel=TOLERANCE)
    pixels = 0.7 * error.mean() + 0.01 * bound
    found = loss_of(inputs, parameterization=kind, learn_logvar=True, **weights)
    assert found["total"] == pytest.approx(pixels, rel=TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_min_snr_weighs_by_its_equation_4(inputs, kind):
    """As a loss on x0 the weight is min(SNR, gamma) for all three: arXiv:2303.09556."""
    x0, eps, out = inputs
    process = Process()
    a, s = process.cumprod**0.5, (1 - process.cumprod) ** 0.5
    x = process.noised(x0, eps)
    predicted = {"eps": (x - s * out) / a, "x0": out, "v": a * x - s * out}[kind]
    weight = np.minimum(process.cumprod / (1 - process.cumprod), 5.0)
    expected = (weight * np.square(predicted - x0)).mean()
    found = loss_of(inputs, parameterization=kind, snr_gamma=5.0)
    # v from x0 cancels where the sample is nearly clean: float32 has lost a digit there.
    assert found["total"] == pytest.approx(expected, rel=10 * TOLERANCE)


def test_l1_is_the_mean_absolute_error(inputs):
    _, eps, out = inputs
    found = loss_of(inputs, loss_type="l1")
    assert found["total"] == pytest.approx(np.abs(out - eps).mean(), rel=TOLERANCE)


def test_the_first_steps_infinite_weight_is_the_seconds():
    cumprod = np.cumprod(1 - betas())
    before = np.append(1.0, cumprod[:-1])
    tables = {
        "betas": betas(),
        "alphas_cumprod": cumprod,
        "posterior_variance": betas() * (1 - before) / (1 - cumprod),
    }
    weights = variational_weights(tables, "eps")
    assert weights[0] == weights[1]
    assert np.isfinite(weights).all()

"""Weights of the loss over steps."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from ldm.errors import UserError
from ldm.process.prediction import Parameterization
from ldm.process.schedules import diffusion_coefficients, make_beta_schedule
from ldm.process.weighting import EDM, P2, MinSNR, Unweighted, error_ratio

KINDS = get_args(Parameterization)
TABLES = diffusion_coefficients(make_beta_schedule("linear", 1000))
SNR = TABLES["alphas_cumprod"] / (1 - TABLES["alphas_cumprod"])


def test_the_errors_of_eps_x0_and_v_are_in_the_ratio_that_is_said():
    a, s = TABLES["sqrt_alphas_cumprod"], TABLES["sqrt_one_minus_alphas_cumprod"]
    of_x0 = 0.3
    # At one sample x = a x0 + s eps an error of x0 makes eps wrong by -a/s of it ...
    of_eps = -a / s * of_x0
    # ... and v = a eps - s x0 by both.
    of_v = a * of_eps - s * of_x0
    for kind, error in (("x0", of_x0), ("eps", of_eps), ("v", of_v)):
        assert np.allclose(error_ratio(SNR, kind) * of_x0**2, error**2)


@pytest.mark.parametrize("weighting", [MinSNR(5.0), P2(0.5, 2.0), EDM(0.5)])
def test_a_weighting_means_the_same_loss_whatever_is_compared(weighting):
    on_x0 = weighting(TABLES, "x0")
    for kind in KINDS:
        assert np.allclose(weighting(TABLES, kind) * error_ratio(SNR, kind), on_x0)
        assert (weighting(TABLES, kind) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_weighting_all_steps_weigh_alike(kind):
    assert (Unweighted()(TABLES, kind) == 1).all()


def test_min_snr_is_equation_4():
    assert np.allclose(MinSNR(5.0)(TABLES, "x0"), np.minimum(SNR, 5.0))


def test_min_snr_leaves_noisy_steps_of_x0_at_their_snr_and_cuts_clean_ones():
    weights = MinSNR(5.0)(TABLES, "x0")
    assert weights.max() == 5.0
    assert np.allclose(weights[SNR < 5], SNR[SNR < 5])


def test_p2_weighs_eps_by_its_formula_and_favours_noisy_steps():
    weights = P2(gamma=0.5, k=2.0)(TABLES, "eps")
    assert np.allclose(weights, 1 / np.sqrt(2.0 + SNR))
    assert (np.diff(weights) > 0).all()


def test_p2_of_gamma_zero_weighs_eps_alike():
    assert np.allclose(P2(gamma=0.0)(TABLES, "eps"), 1)


def test_edm_is_lambda_of_sigma():
    sigma = np.sqrt(1 / SNR)
    expected = (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2
    assert np.allclose(EDM(0.5)(TABLES, "x0"), expected)


def test_edm_of_unit_variance_weighs_v_alike():
    assert np.allclose(EDM(1.0)(TABLES, "v"), 1)


@pytest.mark.parametrize(
    ("cls", "params"),
    [
        (MinSNR, {"gamma": 0}),
        (MinSNR, {"gamma": "5"}),
        (MinSNR, {"gamma": True}),
        (P2, {"k": 0.0}),
        (EDM, {"sigma_data": -1}),
    ],
)
def test_a_parameter_that_is_not_above_zero_is_refused(cls, params):
    with pytest.raises(UserError, match=f"{next(iter(params))} .* above 0"):
        cls(**params)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("weighting", "limit"), [(MinSNR(5.0), 1.0), (P2(0.5, 4.0), 0.5)])
def test_weights_are_finite_and_go_to_their_limit_where_nothing_of_the_signal_is_left(
    kind, weighting, limit
):
    weights = weighting({"alphas_cumprod": np.array([0.5, 1e-12, 0.0])}, kind)
    assert weights[2] == (limit if kind == "eps" else 0.0)
    assert np.allclose(weights[1:2], weights[2:], atol=1e-9)


def test_numbers_may_be_numpys():
    assert np.array_equal(MinSNR(np.float32(5.0))(TABLES, "eps"), MinSNR(5.0)(TABLES, "eps"))

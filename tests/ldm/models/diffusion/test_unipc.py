"""UniPC: the order of predictor and corrector, its weights, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from sigma_walks import MEAN, STD, SigmaModel, error, make, order, start_noise, walked

from ldm.errors import UserError
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.models.diffusion.unipc import UniPCSampler, scale_of, weights
from ldm.rng import PerImageNoise


@pytest.mark.parametrize(("coarse", "fine"), [(40, 80), (80, 160)])
@pytest.mark.parametrize(("name", "expected"), [("unipc", 4), ("unipc_bh2", 3)])
def test_the_corrector_makes_the_order_one_more_than_the_predictors(name, expected, coarse, fine):
    assert order(name, "karras", None, coarse=coarse, fine=fine) == pytest.approx(expected, abs=0.2)


def test_it_is_nearer_than_2m_for_the_same_calls():
    assert error("unipc_bh2", 20, "karras") < 0.5 * error("dpmpp_2m", 20, "karras")
    assert error("unipc", 20, "karras") < 0.2 * error("dpmpp_2m", 20, "karras")


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("h", [0.05, 0.6])
def test_weights_make_a_step_exact_for_polynomials(variant, h):
    # y' = p(t) - y from y(0) = 0 over h, with p known at -h, 0 and h.
    ratios, rho = [-1.0, 1.0], weights([-1.0, 1.0], h, variant)
    for degree, exact in [
        (1, h - 1 + math.exp(-h)),
        (2, h**2 - 2 * h + 2 - 2 * math.exp(-h)),
    ]:
        slopes = [(r * h) ** degree / r for r in ratios]
        total = -scale_of(h, variant) * sum(float(w) * d for w, d in zip(rho, slopes, strict=True))
        assert total == pytest.approx(exact, rel=1e-6)


def test_a_correction_under_a_mask_does_not_bring_back_what_was_there_before():
    known, mask = torch.full((2, 2, 4, 4), MEAN), torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    out = walked(make("unipc", 20, "karras"), mask=mask, x0=known, noise=PerImageNoise([1, 2]))[-1]
    assert (out[..., :2] - MEAN).abs().max() < 0.5 * STD


@pytest.mark.parametrize("options", [{"order": 4}, {"variant": "bh3"}])
def test_other_orders_and_variants_are_refused(options):
    with pytest.raises(UserError, match="1 to 3 and bh1 or bh2"):
        UniPCSampler(SigmaModel(), **options)


def test_order_1_with_its_corrector_is_of_second_order():
    found = []
    for steps in (40, 80):
        sampler = UniPCSampler(SigmaModel(MEAN, STD), spacing="karras", order=1)
        sampler.make_schedule(steps)
        x = start_noise().double()
        exact = sampler.model.flow(x, sampler.time(steps - 1), sampler.time(0), mean=MEAN)
        found.append((walked(sampler, x)[-2] - exact).square().mean().sqrt().item())
    assert math.log2(found[0] / found[1]) == pytest.approx(2, abs=0.15)


def test_a_walk_does_not_remember_another():
    sampler = make_sampler("unipc", SigmaModel(MEAN, STD), spacing="karras")
    sampler.make_schedule(6)
    first = walked(sampler)
    assert all(map(torch.equal, first, walked(sampler)))

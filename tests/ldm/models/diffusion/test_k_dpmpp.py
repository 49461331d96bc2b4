"""DPM-Solver++ and DEIS in noise levels: order of convergence, and what their noise does.

That they are the published ones is in tests/parity/test_more_samplers.py; what every sampler
promises is in test_sampler_behaviour.py.
"""

from __future__ import annotations

import pytest
import torch
from sigma_walks import (
    MEAN,
    STD,
    SigmaModel,
    error,
    from_the_datas_marginal,
    make,
    order,
    walked,
)

from ldm.models.diffusion.k_dpmpp import toward
from ldm.rng import PerImageNoise

SMOOTH = ("karras", "exponential")
NOISY = {
    "dpmpp_2m_sde": "dpmpp_2m",
    "dpmpp_3m_sde": "dpmpp_3m",
    "dpmpp_2s_a": "dpmpp_2s",
    "dpmpp_sde": "dpmpp_2s",
}


@pytest.mark.parametrize(("coarse", "fine"), [(40, 80), (80, 160)])
@pytest.mark.parametrize("spacing", SMOOTH)
@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_2s"])
def test_2m_and_2s_converge_with_second_order(name, spacing, coarse, fine):
    assert order(name, spacing, None, coarse=coarse, fine=fine) == pytest.approx(2, abs=0.12)


@pytest.mark.parametrize(("noisy", "plain"), NOISY.items())
def test_without_their_noise_they_are_the_plain_solvers_and_of_their_order(noisy, plain):
    for one, other in zip(
        walked(make(noisy, 12, "karras", eta=0.0)), walked(make(plain, 12, "karras")), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spacing", SMOOTH)
def test_a_third_estimate_brings_3m_nearer(spacing):
    # Its first step has one estimate, and its error is of order 2; it is what is left in the end.
    for steps in (20, 40, 80):
        assert error("dpmpp_3m", steps, spacing) < 0.5 * error("dpmpp_2m", steps, spacing)


@pytest.mark.parametrize(("coarse", "fine"), [(20, 40), (40, 80), (80, 160)])
def test_deis_converges_with_third_order(coarse, fine):
    assert order("deis", "karras", None, coarse=coarse, fine=fine) == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_3m", "deis"])
def test_more_than_first_order_pays_from_twenty_steps_on(name):
    # Even times are left out: sigma falls by 90 % in their last steps, which no order helps.
    for spacing in ("sgm_uniform", "beta", "align_your_steps"):
        assert error(name, 20, spacing) < 0.7 * error("euler", 20, spacing)


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("name", ["dpmpp_2m_sde_heun", *NOISY])
def test_samples_have_the_mean_and_the_variance_of_the_data(name, eta):
    sampler = make(name, 60, "karras", eta=eta)
    x = from_the_datas_marginal(sampler)
    out = walked(sampler, x, noise=PerImageNoise(range(8)))[-1]
    # 32,768 numbers: the standard error is 0.4 %.
    assert out.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert out.std().item() == pytest.approx(STD, rel=0.03)
    left_of_start = torch.corrcoef(torch.stack([out.flatten(), x.flatten()]))[0, 1]
    assert abs(left_of_start) < {0.5: 0.8, 1.0: 0.15}[eta]  # more than 0.999 without noise


@pytest.mark.parametrize("name", ["dpmpp_2m_sde_heun", *NOISY])
def test_noise_comes_from_the_walks_source_alone_and_moves_it_as_far_at_eta_0(name):
    ends = []
    for eta in (0.0, 1.0):
        source, before = PerImageNoise([7, 8]), torch.get_rng_state()
        walked(make(name, 5, eta=eta), noise=source)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(source.randn((2, 3)))
    assert torch.equal(*ends)


def test_half_of_a_step_and_the_whole_one_have_noise_of_one_path():
    # Where x0 is 0 whatever the sample, a step of dpmpp_sde from 0 is a draw of the whole noise;
    # its middle's is correlated with it by the root of the middle's share of the step in sigma.
    seen = []
    sampler = make("dpmpp_sde", 20, "karras", model=SigmaModel(parameterization="x0"))
    sampler.model.apply_model = lambda x, t, cond: seen.append(x) or torch.zeros_like(x)
    x = torch.zeros(4, 4, 32, 32)
    first = walked(sampler, x, noise=PerImageNoise(range(4)))[0]
    sigma, sigma_next = sampler.begins[19], sampler.begins[18]
    middle = (sigma * sigma_next) ** 0.5
    share = (sigma - middle) / (sigma - sigma_next)
    found = torch.corrcoef(torch.stack([seen[1].flatten(), first.flatten()]))[0, 1].item()
    assert found == pytest.approx(share**0.5, abs=0.02)


def test_going_toward_x0_keeps_the_share_of_noise():
    y, x0 = torch.tensor([5.0]), torch.tensor([1.0])
    assert toward(y, x0, 4.0, 1.0).item() == 2.0
    assert toward(y, x0, 4.0, 0.0).item() == 1.0

"""TCD's own properties; that it is diffusers' is in tests/parity/test_more_samplers.py."""

from __future__ import annotations

import pytest
import torch
from oracle import GaussianModel

from ldm.errors import UserError
from ldm.models.diffusion.tcd import TCDSampler
from ldm.rng import PerImageNoise
from ldm.settings.samplers import notices_on_few_steps

SHAPE = (2, 4, 4)


def sample(gamma: float, steps: int = 6, noise=None):
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    return TCDSampler(GaussianModel(0.4, 0.5)).sample(
        steps, 2, SHAPE, x_T=x, eta=gamma, noise=noise or PerImageNoise([3, 4]), verbose=False
    )[0]


def test_without_gamma_the_noise_that_is_drawn_does_not_matter():
    assert torch.equal(sample(0.0), sample(0.0, noise=PerImageNoise([8, 9])))
    assert not torch.equal(sample(0.3), sample(0.3, noise=PerImageNoise([8, 9])))


def test_the_stream_moves_as_far_whatever_gamma_is():
    ends = []
    for gamma in (0.0, 1.0):
        noise = PerImageNoise([3, 4])
        sample(gamma, noise=noise)
        ends.append(noise.randn((2, 3)))
    assert torch.equal(*ends)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_between_steps_a_sample_has_the_noise_of_where_it_is(gamma):
    # Where every estimate is exact, so is the next sample's distribution.
    model = GaussianModel(mean=0.25, std=0.0)
    sampler = TCDSampler(model)
    sampler.make_schedule(4, ddim_eta=gamma)
    x = torch.randn(4, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    first = next(iter(sampler.walk(x, noise=PerImageNoise(range(4))))).x
    a_bar = model.alphas_cumprod[sampler.time(2)]
    assert first.mean().item() == pytest.approx(0.25 * a_bar.sqrt().item(), abs=0.03)
    assert first.std().item() == pytest.approx((1 - a_bar).sqrt().item(), rel=0.02)


@pytest.mark.parametrize("gamma", [-0.1, 1.1, float("nan")])
def test_an_impossible_gamma_is_refused(gamma):
    with pytest.raises(UserError, match="expected 0 to 1"):
        TCDSampler(GaussianModel()).make_schedule(4, ddim_eta=gamma)


def test_many_steps_and_much_guidance_are_remarked_on():
    assert notices_on_few_steps("tcd", 8, 1.0) == notices_on_few_steps("ddim", 50, 7.5) == []
    (notice,) = notices_on_few_steps("tcd", 50, 7.5)
    assert notice.startswith("--sampler tcd is for a trajectory consistency model or LoRA")

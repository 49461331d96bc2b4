"""Ancestral sampling: DDPM's algorithm 2, its clipping, and its agreement with DDIM at eta 1."""

from __future__ import annotations

import pytest
import torch
from oracle import GaussianModel

from ldm.models.diffusion.ancestral import AncestralSampler
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.rng import PerImageNoise

SHAPE = (2, 4, 4)


def short_model(**options) -> GaussianModel:
    """Return an oracle with 40 training steps that end in noise."""
    model = GaussianModel(**options)
    model.num_timesteps = 40
    model.alphas_cumprod = model.alphas_cumprod[12::25]
    return model


def start(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, *SHAPE, generator=torch.Generator().manual_seed(0))


def sample(model, steps, **options):
    sampler = AncestralSampler(model, **options)
    noise = PerImageNoise([3, 4])
    return sampler.sample(steps, 2, SHAPE, x_T=start(), noise=noise, verbose=False)


def test_a_whole_walk_is_algorithm_2_by_its_formulas():
    model = short_model(mean=0.3)
    x, noise = start(), PerImageNoise([3, 4])
    cumprod = model.alphas_cumprod.double()
    alphas = cumprod / torch.cat([torch.ones(1), cumprod[:-1]])
    for t in reversed(range(40)):
        eps = model.apply_model(x, torch.full((2,), t), None).double()
        mean = (x - (1 - alphas[t]) / (1 - cumprod[t]).sqrt() * eps) / alphas[t].sqrt()
        before = cumprod[t - 1] if t else torch.ones(())
        sigma = ((1 - before) / (1 - cumprod[t]) * (1 - alphas[t])).sqrt()
        x = (mean + sigma * noise.randn(x.shape)).float()
    torch.testing.assert_close(sample(model, 40)[0], x, rtol=0, atol=1e-4)


def test_without_clipping_all_steps_are_those_of_ddim_with_eta_1():
    model = short_model(mean=0.3)
    ddim = DDIMSampler(model)
    ddim.make_schedule(40, ddim_eta=1.0)
    with ddim.original_steps(True):
        for state in ddim.walk(start(), noise=PerImageNoise([3, 4])):
            x = state.x
    torch.testing.assert_close(sample(model, 40)[0], x, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [200, 1000])
def test_the_samples_have_the_datas_mean_and_spread(steps):
    model = GaussianModel(mean=0.5, std=0.7)
    start = model.q_sample(
        0.5 + 0.7 * torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(1)),
        torch.full((8,), 999),
        torch.randn(8, 4, 32, 32, generator=torch.Generator().manual_seed(2)),
    )
    sampler = AncestralSampler(model, spacing="trailing")
    noise = PerImageNoise(range(8))
    out, _ = sampler.sample(steps, 8, (4, 32, 32), x_T=start, noise=noise, verbose=False)
    assert abs(out.mean() - 0.5) < 0.02
    # Long steps lose some of the spread: their noise is the posterior's for a known x0.
    assert abs(out.std() - 0.7) < (0.02 if steps == 200 else 0.01)


def test_a_model_that_clips_ends_within_the_range_of_pictures():
    wide = short_model(mean=0.9, std=0.5)
    assert sample(wide, 40)[0].abs().max() > 1.0
    wide.clip_denoised = True
    clipped, kept = sample(wide, 40)
    assert clipped.abs().max() <= 1.0
    assert max(x0.abs().max() for x0 in kept["pred_x0"][1:]) <= 1.0
    assert sample(wide, 40, clip_denoised=False)[0].abs().max() > 1.0


def test_the_models_own_posterior_variance_is_respected():
    model = short_model()
    narrow = sample(model, 40)[0]
    model.v_posterior = 1.0  # Eq. 7's upper bound, beta
    assert not torch.equal(sample(model, 40)[0], narrow)


@pytest.mark.parametrize("v_posterior", [0.0, 1.0])
def test_the_last_step_adds_no_noise(v_posterior):
    model = short_model(std=0.0, mean=0.25)
    model.v_posterior = v_posterior  # at 1 the table has a variance there: beta
    # Where all data are one point, only noise of the last step could move a sample off it.
    torch.testing.assert_close(
        sample(model, 40)[0], torch.full((2, *SHAPE), 0.25), atol=1e-4, rtol=0
    )


def test_decoding_goes_on_from_where_encoding_ends():
    model = short_model(mean=0.3)
    sampler = AncestralSampler(model)
    sampler.make_schedule(40)
    clean = torch.zeros(2, *SHAPE)
    assert torch.equal(sampler.stochastic_encode(clean, 0), clean)
    noise = start()
    noisy = sampler.stochastic_encode(clean, 25, noise=noise)
    assert torch.allclose(noisy, model.q_sample(clean, torch.tensor([24, 24]), noise))
    assert [s.t for s in sampler.walk(noisy, t_start=25)][0] == 24

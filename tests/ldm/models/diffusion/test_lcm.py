"""The sampler of latent consistency models: diffusers' numbers, and its own properties."""

from __future__ import annotations

import pytest
import torch
from oracle import GaussianModel

from ldm.errors import UserError
from ldm.models.diffusion.lcm import LCMSampler, boundary_scales, distilled_times
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.rng import PerImageNoise

SHAPE = (2, 4, 4)


def start() -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def sample(model, steps, **options):
    noise = PerImageNoise([3, 4])
    return LCMSampler(model).sample(
        steps, 2, SHAPE, x_T=start(), noise=noise, verbose=False, **options
    )


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_a_walk_is_that_of_diffusers_scheduler_on_the_same_noise(steps, kind, monkeypatch):
    from diffusers import LCMScheduler
    from diffusers.schedulers import scheduling_lcm

    model, noise = GaussianModel(mean=0.3, parameterization=kind), PerImageNoise([3, 4])
    kinds = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
    scheduler = LCMScheduler(prediction_type=kinds[kind])
    scheduler.set_timesteps(steps)
    monkeypatch.setattr(
        scheduling_lcm, "randn_tensor", lambda shape, **_: noise.randn(shape, "cpu", torch.float32)
    )
    x = start()
    for t in scheduler.timesteps:
        out = model.apply_model(x, t.expand(2), None)
        x = scheduler.step(out, t, x).prev_sample
    torch.testing.assert_close(sample(model, steps)[0], x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 50])
def test_the_times_are_those_of_diffusers(steps):
    from diffusers import LCMScheduler

    scheduler = LCMScheduler()
    scheduler.set_timesteps(steps)
    assert distilled_times(steps, 1000).tolist() == scheduler.timesteps.flip(0).tolist()


@pytest.mark.parametrize("steps", [0, 51])
def test_more_steps_than_were_distilled_are_refused(steps):
    with pytest.raises(UserError, match="expected 1 to 50"):
        LCMSampler(GaussianModel()).make_schedule(steps)


def test_a_model_of_few_training_steps_has_its_own():
    assert distilled_times(4, 8).tolist() == [1, 3, 5, 7]


def test_another_spacing_is_taken_as_it_is():
    sampler = make_sampler("lcm", GaussianModel(), spacing="trailing")
    sampler.make_schedule(5)
    assert sampler.times.tolist() == [199, 399, 599, 799, 999]


def test_at_time_0_the_end_of_a_walk_is_where_it_is():
    assert boundary_scales(0) == (1.0, 0.0)
    assert boundary_scales(999)[1] == pytest.approx(1.0)


def test_a_step_at_time_0_stays_where_it_is():
    """The consistency function's boundary condition, arXiv:2303.01469, section 3."""
    noise = PerImageNoise([3, 4])
    sampler = make_sampler("lcm", GaussianModel(), spacing="linspace", noise=noise)
    sampler.make_schedule(4)
    *_, before, last = sampler.walk(start())
    assert sampler.times[0] == 0
    assert torch.equal(last.x, before.x)


def test_guidance_of_1_asks_for_one_row_and_of_2_for_two():
    model = GaussianModel()
    cond, uncond = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    once, _ = sample(model, 4, conditioning=cond, unconditional_conditioning=uncond)
    assert {len(x) for x in model.calls} == {2}
    model.calls.clear()
    guided, _ = sample(
        model,
        4,
        conditioning=cond,
        unconditional_conditioning=uncond,
        unconditional_guidance_scale=2.0,
    )
    assert {len(x) for x in model.calls} == {4}
    # For this model guidance by 2 is exactly a mean twice as far.
    torch.testing.assert_close(guided.mean() - once.mean(), torch.tensor(1.0), atol=0.1, rtol=0)


def test_decoding_continues_where_encoding_ends():
    sampler = LCMSampler(GaussianModel())
    sampler.make_schedule(4)
    x0, noise = start(), start().flip(0)
    torch.testing.assert_close(sampler.stochastic_encode(x0, 0, noise=noise), x0)
    begun = sampler.stochastic_encode(x0, 3, noise=noise)
    torch.testing.assert_close(begun, sampler.renoise(x0, 2, noise))
    cumprod = sampler.model.alphas_cumprod[759]
    torch.testing.assert_close(begun, cumprod.sqrt() * x0 + (1 - cumprod).sqrt() * noise)

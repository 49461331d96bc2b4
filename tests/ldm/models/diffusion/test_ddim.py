"""DDIM's table of steps, and its way back. Its steps: test_oracle.py, test_sampler_behaviour.py."""

from __future__ import annotations

import pytest
import torch
from oracle import GaussianModel

from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler

SHAPE = (2, 4, 4)


def normal(seed: int) -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(seed))


def made(steps: int = 50, **options) -> DDIMSampler:
    sampler = DDIMSampler(GaussianModel(0.3, **options))
    sampler.make_schedule(steps, verbose=False)
    return sampler


def test_each_step_ends_where_the_next_begins_and_the_last_at_the_first_training_steps_noise():
    model = GaussianModel()
    sampler = DDIMSampler(model)
    sampler.make_schedule(10)
    table = sampler.table
    assert torch.equal(table.alphas_prev[1:], table.alphas[:-1])
    assert table.alphas_prev[0] == model.alphas_cumprod[0].float()


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
@pytest.mark.parametrize(("original", "taken"), [(False, 200), (True, 400)])
def test_encoding_then_decoding_gives_the_picture_back(kind, original, taken):
    sampler, picture = made(500, parameterization=kind), 0.3 + 0.5 * normal(0)
    at_timesteps = not original  # training steps are their own times
    noisy, _ = sampler.encode(picture, None, taken, original, at_timesteps=at_timesteps)
    assert (noisy - picture).abs().max() > 0.3
    back = sampler.decode(noisy, None, taken, use_original_steps=original)
    torch.testing.assert_close(back, picture, rtol=0, atol=0.02)


def test_encoding_follows_the_exact_flow():
    sampler, picture = made(250), 0.3 + 0.5 * normal(0)
    noisy, _ = sampler.encode(picture, None, 250, at_timesteps=True)
    exact = sampler.model.flow(picture, 0, int(sampler.ddim_timesteps[-1]), mean=0.3)
    assert (noisy - exact).abs().max() < 0.05


def test_stable_diffusion_2_asks_the_model_at_the_numbers_of_the_steps():
    sampler = made(20)
    sampler.encode(normal(0), None, 6)
    assert [int(t[0]) for t in sampler.model.calls] == list(range(6))
    sampler.model.calls.clear()
    sampler.encode(normal(0), None, 6, at_timesteps=True)
    assert [int(t[0]) for t in sampler.model.calls] == sampler.ddim_timesteps[:6].tolist()


@pytest.mark.parametrize(
    ("asked", "kept"),
    [(None, []), (3, [0, 4, 8, 10, 11]), (12, list(range(12))), (100, list(range(12)))],
)
def test_encoding_keeps_states_where_stable_diffusion_2_does(asked, kept):
    seen = []
    noisy, out = made(20).encode(
        normal(0), None, 12, return_intermediates=asked, callback=seen.append
    )
    assert seen == list(range(12))
    assert out["intermediate_steps"] == kept and torch.equal(out["x_encoded"], noisy)
    assert out.keys() - {"intermediates"} == {"x_encoded", "intermediate_steps"}
    if asked:
        assert len(out["intermediates"]) == len(kept)
        assert torch.equal(out["intermediates"][-1], noisy)


def test_encoding_is_guided_as_sampling_is():
    cond, uncond = torch.full((2, 1, 1, 1), 0.4), torch.full((2, 1, 1, 1), 0.1)
    guided, _ = made().encode(
        normal(0),
        cond,
        30,
        unconditional_guidance_scale=3.0,
        unconditional_conditioning=uncond,
        at_timesteps=True,
    )
    moved, _ = made().encode(normal(0), uncond + 3.0 * (cond - uncond), 30, at_timesteps=True)
    torch.testing.assert_close(guided, moved, rtol=0, atol=1e-4)


def test_encoding_what_there_is_not_is_a_user_error():
    with pytest.raises(UserError, match="51 steps given; expected at most 50"):
        made().encode(normal(0), None, 51)
    with pytest.raises(UserError, match="unconditional_conditioning"):
        made().encode(normal(0), None, 5, unconditional_guidance_scale=2.0)
    with pytest.raises(RuntimeError, match="make_schedule"):
        DDIMSampler(GaussianModel()).encode(normal(0), None, 5)

"""A walk queues its steps on a device and never waits for one to end."""

from __future__ import annotations

import pytest
import torch
from oracle import GaussianModel
from waits import DEVICE, counted_waits

from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.rng import GlobalNoise, PerImageNoise
from ldm.settings.samplers import SAMPLERS

STEPS = 4
SHAPE = (2, 2, 4, 4)


class OnDevice:
    """A model whose tensors are on the device: a stand-in that predicts half of what it sees."""

    num_timesteps, device = 1000, DEVICE

    def __init__(self, parameterization: str = "eps") -> None:
        self.parameterization = parameterization
        self.alphas_cumprod = torch.ones(1000, device=DEVICE)

    def apply_model(self, x, t, cond):
        return 0.5 * x + 0 * t.reshape(-1, 1, 1, 1) + 0 * cond

    def q_sample(self, x_start, t, noise):
        return self.alphas_cumprod.gather(-1, t).reshape(-1, 1, 1, 1) * x_start + noise


def waits_of(name: str, *, parameterization: str = "eps", eta: float = 0.0, **options) -> list[str]:
    """Walk on the device; return the waits. ``options`` are functions that make values."""
    sampler = make_sampler(name, GaussianModel())
    sampler.make_schedule(STEPS, ddim_eta=eta, verbose=False)
    with counted_waits() as waits:
        sampler.model = OnDevice(parameterization)
        x = torch.randn(SHAPE, device=DEVICE)
        keywords = {key: make() for key, make in options.items()}
        prompts = {"cond": torch.ones(2, 1, 1, 1, device=DEVICE)}
        if "unconditional_guidance_scale" in keywords:
            prompts["unconditional_conditioning"] = torch.zeros(2, 1, 1, 1, device=DEVICE)
        taken = sum(1 for _ in sampler.walk(x, **prompts, **keywords))
    assert taken == STEPS
    return waits.found


def test_a_wait_is_seen_when_there_is_one():
    with counted_waits() as waits:
        x = torch.ones(3, device=DEVICE)
        float(x.sum())
        x.cpu()
        torch.ones(3).to(DEVICE)
        torch.ones(3).to(DEVICE, non_blocking=True)
    assert len(waits.found) == 3


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_guided_step_waits_for_nothing(name):
    assert waits_of(name, unconditional_guidance_scale=lambda: 5.0) == []


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_of_a_model_that_predicts_v_waits_for_nothing(name):
    assert waits_of(name, parameterization="v") == []


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_step_behind_a_mask_waits_for_nothing(name):
    half = {"mask": lambda: torch.ones(2, 1, 4, 4, device=DEVICE)}
    half["x0"] = lambda: torch.zeros(SHAPE, device=DEVICE)
    assert waits_of(name, **half) == []


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_limit_on_x0_waits_for_nothing(name):
    assert waits_of(name, dynamic_threshold=lambda: 1.0) == []


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("source", [GlobalNoise, lambda: PerImageNoise([0, 1])])
def test_noise_of_either_source_is_waited_for_by_nobody(name, source):
    eta = 1.0 if SAMPLERS[name].eta == "used" else 0.0
    assert waits_of(name, eta=eta, noise=source, noise_dropout=lambda: 0.1) == []


def test_the_unet_waits_for_nothing():
    with counted_waits() as waits, torch.no_grad():
        with DEVICE:
            unet = UNetModel(
                image_size=8,
                in_channels=4,
                model_channels=32,
                out_channels=4,
                num_res_blocks=1,
                attention_resolutions=[1, 2],
                channel_mult=(1, 2),
                num_heads=2,
                use_spatial_transformer=True,
                context_dim=16,
            )
        t = torch.full((2,), 500, device=DEVICE)
        waits.found.clear()
        unet(torch.zeros(2, 4, 8, 8, device=DEVICE), t, torch.zeros(2, 5, 16, device=DEVICE))
    assert waits.found == []

"""Instruct-pix2pix's kind of fork: a LightningModule of its own, on our parts and samplers."""

from __future__ import annotations

import pytest
import torch
from descendants.exercise import (
    assert_pictures,
    batch_of,
    build_hub,
    changed,
    drawn,
    fit,
    hub_config,
    items,
    weights_of,
)
from tiny_model import CONFIG

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.dpm_solver import DPMSolverSampler
from ldm.models.diffusion.plms import PLMSSampler

UNET = CONFIG["model"]["params"]["unet_config"]
WIDE = {**UNET, "params": {**UNET["params"], "in_channels": 8}}
PLAIN = "ldm.models.diffusion.ddpm.LatentDiffusion"


def config(**changes):
    own = {"first_stage_key": "edited", "cond_stage_key": "edit", "use_ema": True}
    target = "descendants.forks.edit_hub.EditLDM"
    return hub_config(target, unet_config=WIDE, **own, **changes)


def data(count=4):
    pairs = items(count, before=(16, 16, 3))
    return [
        {"edited": p["jpg"], "edit": {"c_concat": p["before"], "c_crossattn": p["txt"]}}
        for p in pairs
    ]


@pytest.fixture(scope="module")
def hub():
    return build_hub(config()).eval()


def test_a_text_to_image_models_weights_widen_to_its_eight_channels_and_predict_the_same():
    ours = build_hub(hub_config(PLAIN)).eval()
    fork = build_hub(config(), initial=ours.state_dict()).eval()
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 900])
    with torch.no_grad():
        _, cond = fork.get_input(batch_of(data(2)), "edited", uncond=0.0)
        plain = ours.apply_model(x, t, cond["c_crossattn"][0])
        torch.testing.assert_close(fork.apply_model(x, t, cond), plain, rtol=0, atol=1e-6)
    assert torch.equal(fork.sqrt_alphas_cumprod, ours.sqrt_alphas_cumprod)
    noise = torch.randn_like(x)
    torch.testing.assert_close(fork.q_sample(x, t, noise), ours.q_sample(x, t, noise))


def test_it_trains_by_its_own_steps_on_our_average():
    model = build_hub(config())
    before, frozen = weights_of(model.model), weights_of(model.first_stage_model)
    trainer = fit(model, data())
    assert "train/loss" in trainer.logged_metrics
    assert changed(model.model, before)
    assert not changed(model.first_stage_model, frozen)
    assert int(model.model_ema.num_updates) == 2


@pytest.mark.parametrize("sampler", [DDIMSampler, PLMSSampler, DPMSolverSampler])
def test_our_samplers_draw_for_a_hub_that_is_none_of_ours(hub, sampler):
    _, cond = hub.get_input(batch_of(data(2)), "edited", uncond=0.0)
    other = {**cond, "c_concat": [1.0 - cond["c_concat"][0]]}
    one = drawn(hub, cond, sampler=sampler)
    assert one.isfinite().all()
    assert not torch.equal(one, drawn(hub, other, sampler=sampler))
    bare = {"c_concat": cond["c_concat"], "c_crossattn": [cond["c_crossattn"][0] * 0]}
    guided = {"unconditional_guidance_scale": 3.0, "unconditional_conditioning": bare}
    assert not torch.equal(one, drawn(hub, cond, sampler=sampler, **guided))


def test_one_ancestral_step_on_its_tables_is_a_hubs_of_ours(hub):
    ours = build_hub(hub_config(PLAIN, unet_config=WIDE, conditioning_key="hybrid")).eval()
    ours.load_state_dict(hub.state_dict(), strict=False)
    _, cond = hub.get_input(batch_of(data(2)), "edited", uncond=0.0)
    x, t = torch.randn(2, 4, 8, 8), torch.full((2,), 400)
    torch.manual_seed(0)
    own = hub.p_sample(x, cond, t)
    torch.manual_seed(0)
    torch.testing.assert_close(own, ours.p_sample(x, cond, t), rtol=1e-4, atol=1e-5)


def test_its_pictures_are_drawn_by_our_sampler_with_averaged_weights(hub):
    before = weights_of(hub)
    log = hub.log_images(batch_of(data(2)), N=2)
    assert_pictures(log, "reconstruction", "original", "samples")
    assert log["samples"].shape == (2, 3, 16, 16)
    assert not changed(hub, before)

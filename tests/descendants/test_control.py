"""ControlNet's kind of fork works on our hub, UNet, blocks and tables as it stands."""

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
from descendants.forks.control_sampler import SteeredDDIM
from tiny_model import CONFIG

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.plms import PLMSSampler

UNET = CONFIG["model"]["params"]["unet_config"]["params"]
CONTROL = {
    "target": "descendants.forks.control.Control",
    "params": {
        "in_channels": 4,
        "model_channels": 32,
        "hint_channels": 3,
        "context_dim": 32,
        "use_linear_in_transformer": True,
    },
}
EMBEDDINGS = "cond_stage_model.transformer.text_model.embeddings"
HINT = {"hint": (16, 16, 3)}


def config(**changes):
    return hub_config(
        "descendants.forks.control.ControlLDM",
        unet_config={"target": "descendants.forks.control.SteeredUNet", "params": UNET},
        control_stage_config=CONTROL,
        control_key="hint",
        only_mid_control=False,
        **changes,
    )


def with_control(model):
    """Let the zero convolutions be zero no more, so that the hint is seen."""
    for parameter in model.control_model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="module")
def steered():
    return with_control(build_hub(config())).eval()


def test_zero_convolutions_leave_the_models_prediction_as_it_was():
    fork, ours = (
        build_hub(config()),
        build_hub(hub_config("ldm.models.diffusion.ddpm.LatentDiffusion")),
    )
    ours.load_state_dict(fork.state_dict(), strict=False)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 900])
    _, cond = fork.get_input(batch_of(items(2, **HINT)), "jpg")
    with torch.no_grad():
        steered = fork.apply_model(x, t, cond)
        assert torch.equal(steered, ours.apply_model(x, t, cond["c_crossattn"][0]))


@pytest.mark.parametrize("only_mid", [False, True])
def test_a_hint_steers_the_prediction(steered, only_mid, monkeypatch):
    monkeypatch.setattr(steered, "only_mid_control", only_mid)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 900])
    _, cond = steered.get_input(batch_of(items(2, **HINT)), "jpg")
    other = {**cond, "c_concat": [1.0 - cond["c_concat"][0]]}
    with torch.no_grad():
        assert not torch.equal(steered.apply_model(x, t, cond), steered.apply_model(x, t, other))


def test_training_goes_through_the_forks_hooks_and_moves_its_side_network_alone():
    model = build_hub(config())
    side, rest = weights_of(model.control_model), weights_of(model.model)
    trainer = fit(model, items(**HINT))
    assert {"train/loss_simple_step", "train/loss_vlb_epoch", "train/loss_step"} <= set(
        trainer.logged_metrics
    )
    assert not changed(model.model, rest)
    moved = changed(model.control_model, side)
    assert {name for name in side if "zero_convs" in name or "middle_out" in name} <= moved
    assert "input_blocks.1.0.in_layers.2.weight" in moved  # in the second step


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_the_forks_sampler_and_ours_draw_the_same(steered, scale):
    _, cond = steered.get_input(batch_of(items(2, **HINT)), "jpg")
    bare = {**cond, "c_crossattn": [steered.get_unconditional_conditioning(2)]}
    options = {"unconditional_guidance_scale": scale, "unconditional_conditioning": bare}
    theirs = drawn(steered, cond, sampler=SteeredDDIM, **options)
    assert theirs.std() > 0.1
    torch.testing.assert_close(theirs, drawn(steered, cond, **options), rtol=0, atol=2e-5)


@pytest.mark.parametrize("sampler", [DDIMSampler, PLMSSampler])
def test_our_samplers_draw_under_a_hint(steered, sampler):
    _, cond = steered.get_input(batch_of(items(2, **HINT)), "jpg")
    other = {**cond, "c_concat": [1.0 - cond["c_concat"][0]]}
    assert not torch.equal(
        drawn(steered, cond, sampler=sampler), drawn(steered, other, sampler=sampler)
    )


def test_the_forks_pictures_are_made_by_its_own_sampler(steered, monkeypatch):
    calls = []
    sample = SteeredDDIM.sample
    monkeypatch.setattr(SteeredDDIM, "sample", lambda *a, **k: calls.append(1) or sample(*a, **k))
    log = steered.log_images(batch_of(items(2, **HINT)), N=2, ddim_steps=3)
    assert calls == [1]
    assert_pictures(log, "reconstruction", "control", "conditioning", "samples_cfg_scale_9.00")
    assert log["samples_cfg_scale_9.00"].shape == (2, 3, 16, 16)


@pytest.mark.parametrize("extra", ["logvar", "position_ids", "averages"])
def test_what_the_family_stores_besides_is_loaded_strictly(steered, extra):
    known = {
        "logvar": {"logvar": torch.zeros(1000)},
        "position_ids": {
            "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[
                None
            ]
        },
        "averages": {
            f"model_ema.{name.replace('.', '')}": tensor
            for name, tensor in steered.model.named_parameters()
        }
        | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(3)},
    }[extra]
    model = build_hub(config(), seed=1)
    model.load_state_dict({**steered.state_dict(), **known}, strict=True)
    assert not changed(model, weights_of(steered))
    with pytest.raises(RuntimeError, match="control_model.mistyped"):
        model.load_state_dict(
            {**steered.state_dict(), **known, "control_model.mistyped": torch.zeros(1)}, strict=True
        )

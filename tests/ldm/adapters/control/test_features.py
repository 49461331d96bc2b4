"""T2I-Adapters on a model: full and light, both layouts, grey and coloured drawings."""

from __future__ import annotations

import pytest
import torch
from control_parts import (
    drawing,
    inputs,
    make_model,
    original_names,
    peer_adapter,
    peer_unet,
)
from safetensors.torch import save_file

from ldm.adapters.control import read_control
from ldm.adapters.control.features import ends_of_levels
from ldm.adapters.control.modes import soft_features
from ldm.adapters.handle import require_unet
from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.modules.diffusionmodules.t2i_adapter import T2IAdapter


@pytest.fixture(scope="module")
def model():
    return make_model().requires_grad_(False)


@pytest.fixture(scope="module")
def peer(model):
    return peer_unet(model)


@pytest.fixture(scope="module")
def control(model, tmp_path_factory):
    adapter = peer_adapter("full_adapter", 3)
    path = tmp_path_factory.mktemp("adapter") / "adapter.safetensors"
    save_file(original_names(adapter.state_dict()), path)
    return read_control(path, model)


def predict(model):
    return require_unet(model)(*inputs())


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["full_adapter", "light_adapter"])
def test_features_are_diffusers_from_folder_and_original_file(
    model, peer, tmp_path, kind, channels
):
    adapter = peer_adapter(kind, channels)
    adapter.save_pretrained(tmp_path / "folder")
    save_file(original_names(adapter.state_dict()), tmp_path / "original.safetensors")
    hint = drawing(2)[:, :channels]
    x, t, context = inputs()
    features = [0.7 * each for each in adapter(hint)]
    want = peer(x, t, context, down_intrablock_additional_residuals=features).sample
    assert (want - predict(model)).abs().max() > 1e-2
    for name, form in (("folder", "diffusers"), ("original.safetensors", "TencentARC")):
        control = read_control(tmp_path / name, model)
        assert control.report.form == form and not control.report.warnings()
        with control.attach(model, hint, 0.7):
            torch.testing.assert_close(predict(model), want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_detaching_leaves_no_hook(model, control):
    before, keys = predict(model), list(model.state_dict())
    handle = control.attach(model, drawing())
    assert not torch.equal(predict(model), before) and list(model.state_dict()) == keys
    handle.detach()
    assert torch.equal(predict(model), before)
    assert not any(block._forward_hooks for block in require_unet(model).input_blocks)


@torch.no_grad()
def test_several_add_up_by_their_weights(model, control):
    """Two of one adapter, at 0.25 and 0.75, are one at 1."""
    with control.attach(model, drawing()):
        whole = predict(model)
    with control.attach(model, drawing(), 0.25), control.attach(model, drawing(), 0.75):
        torch.testing.assert_close(predict(model), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_drawing_is_looked_at_once_a_walk_and_within_its_steps(model, control):
    calls, network = [], control.network.network
    hook = network.register_forward_hook(lambda *_: calls.append(1))
    cond, uncond = inputs(2)[2].split(1)
    guided = {"unconditional_conditioning": uncond, "unconditional_guidance_scale": 3.0}

    def draw():
        x = inputs(1)[0]
        return DDIMSampler(model).sample(4, 1, (4, 8, 8), cond, x_T=x, verbose=False, **guided)[0]

    plain = draw()
    with control.attach(model, drawing(), end=0.5):
        half = draw()
    assert len(calls) == 1 and not torch.equal(half, plain)
    with control.attach(model, drawing(), lambda moment: float(moment.number < 2)):
        assert torch.equal(draw(), half)
    hook.remove()


@torch.no_grad()
def test_controlling_the_conditional_rows_leaves_the_others_to_the_bit(model, control):
    handle = control.attach(model, drawing(), mode="control")
    before = predict(model)
    handle.follower.tell(handle.follower.moment, 1, ("uncond", "cond"))
    after = predict(model)
    handle.detach()
    plain = predict(model)
    assert torch.equal(after[:1], plain[:1]) and torch.equal(after[1:], before[1:])
    assert not torch.equal(after[1:], plain[1:])


@torch.no_grad()
def test_odd_latents_are_rounded_up_as_in_the_unet(model, control):
    shapes = [tuple(f.shape[-2:]) for f in control.network.network(drawing(side=72))]
    assert shapes == [(9, 9), (5, 5), (3, 3)]
    x, t, context = inputs(side=9)
    with control.attach(model, drawing(side=72)):
        assert require_unet(model).encode(x, t, context)[0].shape[-1] == 3


def test_features_join_at_the_ends_of_levels():
    assert ends_of_levels(require_unet(make_model(channel_mult=[1, 2, 2, 2]))) == [2, 5, 8, 11]


def test_soft_weights_are_the_extensions():
    assert soft_features(4) == (0.25, 0.62, 0.825, 1.0)
    assert soft_features(3) == (0.62, 0.825, 1.0)


def test_one_made_for_sdxl_is_refused_by_name(model, tmp_path):
    wide = {"conv_in.weight": torch.zeros(32, 768, 3, 3), "body.0.block1.weight": torch.zeros(1)}
    save_file(wide, tmp_path / "xl.safetensors")
    with pytest.raises(UserError, match="is made for SDXL"):
        read_control(tmp_path / "xl.safetensors", model)


def test_one_of_other_widths_is_refused_by_name(model, tmp_path):
    other = T2IAdapter(3, (32, 64, 96), 2)
    save_file(
        {f"adapter.{n}": v for n, v in other.state_dict().items()}, tmp_path / "a.safetensors"
    )
    with pytest.raises(UserError, match=r"does not fit the model: 'body\.2\."):
        read_control(tmp_path / "a.safetensors", model)

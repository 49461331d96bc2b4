"""Controls' files: every published layout, and those that are refused in one line."""

from __future__ import annotations

import json
import os

import pytest
import torch
from control_parts import control_config, drawing, inputs, make_model, make_net, peer_net
from narrow_models import narrow_model
from safetensors.torch import save_file

from ldm.adapters.control import read_control
from ldm.adapters.handle import require_unet
from ldm.errors import UserError


@pytest.fixture(scope="module")
def model():
    return make_model().requires_grad_(False)


@pytest.fixture(scope="module")
def state(model):
    return make_net(model).state_dict()


def v11(state):
    return {f"control_model.{n}": v for n, v in state.items()}


def write(folder, state, name="net.safetensors"):
    save_file({n: v.contiguous() for n, v in state.items()}, folder / name)
    return folder / name


def added(model, control):
    """Return what a control changes in one call."""
    with torch.no_grad():
        plain = require_unet(model)(*inputs())
        with control.attach(model, drawing()):
            return require_unet(model)(*inputs()) - plain


@pytest.fixture(scope="module")
def expected(model, state, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("expected"), v11(state))
    return added(model, read_control(path, model))


def test_a_whole_v1_0_file_gives_its_control_alone_and_says_so(model, state, expected, tmp_path):
    whole = {**model.state_dict(), **v11(state)}
    whole = {n: v + 1 if n.startswith("model.diffusion") else v for n, v in whole.items()}
    torch.save({"state_dict": whole, "global_step": 3}, tmp_path / "control_sd15_canny.pth")
    before = {n: v.clone() for n, v in model.state_dict().items()}
    control = read_control(tmp_path / "control_sd15_canny.pth", model)
    assert torch.equal(added(model, control), expected)
    assert control.report.form == "cldm (whole model)" and not control.report.unused
    assert "only its ControlNet is used" in control.report.notes[0]
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def test_a_file_without_prefix_is_the_same(model, state, expected, tmp_path):
    control = read_control(write(tmp_path, state), model)
    assert torch.equal(added(model, control), expected) and not control.report.warnings()


@pytest.mark.parametrize("prefix", ["", "control_model."])
def test_a_difference_file_has_the_base_models_weights_added(
    model, state, expected, tmp_path, prefix
):
    base = require_unet(model).state_dict()
    less = {f"{prefix}{n}": v - base[n] if n in base else v for n, v in state.items()}
    path = write(tmp_path, {**less, f"{prefix}difference": torch.zeros(1)})
    control = read_control(path, model)
    torch.testing.assert_close(added(model, control), expected, rtol=0, atol=1e-5)
    assert control.report.form == "cldm (difference)" and not control.report.unused


def test_diffusers_folder_and_file_are_the_same(model, tmp_path):
    peer_net().save_pretrained(tmp_path / "folder")
    folder = added(model, read_control(tmp_path / "folder", model))
    source = tmp_path / "folder/diffusion_pytorch_model.safetensors"
    (tmp_path / "renamed.safetensors").write_bytes(source.read_bytes())
    file = read_control(tmp_path / "renamed.safetensors", model)
    assert torch.equal(added(model, file), folder) and folder.abs().max() > 1e-2
    assert file.report.form == "diffusers" and file.report.modules > 60


def test_a_diffusers_folder_says_that_it_pools_and_in_which_order_it_has_colours(model, tmp_path):
    net = peer_net(global_pool_conditions=True)
    net.save_pretrained(tmp_path / "pooling")
    assert read_control(tmp_path / "pooling", model).pooled
    peer_net(controlnet_conditioning_channel_order="bgr").save_pretrained(tmp_path / "bgr")
    bgr, rgb = (
        read_control(tmp_path / name, model, pooled=False).network.network.input_hint_block[0]
        for name in ("bgr", "pooling")
    )
    assert torch.equal(bgr.weight.flip(1), rgb.weight)


def test_a_linear_projection_serves_a_model_with_convolutions(model, state, expected, tmp_path):
    flat = {n: v[..., 0, 0] if ".proj_" in n and v.ndim == 4 else v for n, v in state.items()}
    assert torch.equal(added(model, read_control(write(tmp_path, v11(flat)), model)), expected)


def test_sd_2s_kind_of_model_has_controls_too(tmp_path):
    config = control_config(use_linear_in_transformer=True, num_head_channels=16, num_heads=-1)
    model = narrow_model(config)
    path = write(tmp_path, v11(make_net(model).state_dict()))
    assert added(model, read_control(path, model)).abs().max() > 1e-3


def test_keys_without_a_use_are_named(model, state, tmp_path):
    control = read_control(write(tmp_path, {**state, "scale_shift": torch.ones(1)}), model)
    assert control.report.unused == ["scale_shift"]
    assert "'scale_shift'" in control.report.warnings()[0]


def test_the_summary_says_what_it_is(model, state, tmp_path):
    summary = read_control(write(tmp_path, v11(state)), model).report.summary()
    assert summary.startswith("ControlNet 'net.safetensors', cldm format, made for models of")


def drop(state, name):
    return {n: v for n, v in state.items() if n != name}


BROKEN = {
    "truncated": ("lacks 1 weights", lambda s: drop(s, "middle_block_out.0.weight")),
    "another shape": (
        "does not fit the model: 'middle_block_out.0.weight' has the shape",
        lambda s: s | {"middle_block_out.0.weight": torch.zeros(3, 3)},
    ),
    "a layer too many": (
        "1 weights for layers that the model lacks",
        lambda s: s | {"input_blocks.9.0.op.weight": torch.zeros(1)},
    ),
    "not a number": (
        "NaN or infinite numbers in 1 tensors ('time_embed.0.bias')",
        lambda s: s | {"time_embed.0.bias": torch.full((128,), float("nan"))},
    ),
    "whole numbers": (
        "int64 numbers in 'time_embed.0.bias'",
        lambda s: s | {"time_embed.0.bias": torch.zeros(128, dtype=torch.int64)},
    ),
    "another base": (
        "is made for v2; the model is one of models of context width 32",
        lambda s: {n: torch.zeros(64, 1024) if "attn2.to_k" in n else v for n, v in s.items()},
    ),
    "no hint": (
        "lacks 1 weights",
        lambda s: drop(s, "input_hint_block.2.weight"),
    ),
    "flat convolution": (
        "no convolution 'input_blocks.0.0'",
        lambda s: s | {"input_blocks.0.0.weight": torch.zeros(4)},
    ),
    "LoRA": ("is a LoRA; give it as one", lambda _: {"lora_unet_a.lora_up.weight": torch.ones(1)}),
    "IP-Adapter": ("is an IP-Adapter", lambda _: {"ip_adapter.1.to_k_ip.weight": torch.ones(1)}),
    "Control-LoRA": ("is a Control-LoRA", lambda _: {"lora_controlnet": torch.ones(1)}),
    "whole model": (
        "is a whole model",
        lambda _: {"model.diffusion_model.out.2.bias": torch.ones(1)},
    ),
    "something": ("of no known kind (its keys are such as 'x')", lambda _: {"x": torch.ones(1)}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_used_is_one_line(model, state, tmp_path, case):
    words, change = BROKEN[case]
    path = write(tmp_path, change(dict(state)))
    with pytest.raises(UserError) as caught:
        read_control(path, model)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_and_evil_files_are_one_line(model, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save({"control_model.x": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "huge.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.safetensors").write_text("<html>log in</html>")
    for name in ("evil.pth", "huge.safetensors", "empty", "page.safetensors", "none.safetensors"):
        with pytest.raises(UserError) as caught:
            read_control(tmp_path / name, model)
        assert "\n" not in str(caught.value)


def test_a_config_beside_a_file_of_another_name_is_not_read(model, state, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"global_pool_conditions": True}))
    assert not read_control(write(tmp_path, state), model).pooled


def test_a_model_without_ldms_unet_is_refused(state, tmp_path):
    with pytest.raises(UserError, match="a Linear was given for an adapter"):
        read_control(write(tmp_path, state), torch.nn.Linear(1, 1))

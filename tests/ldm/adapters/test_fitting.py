"""What a file is and whether it fits a model is told by its shapes, without reading its weights."""

from __future__ import annotations

import pytest
import torch
from control_parts import (
    control_config,
    make_model,
    original_names,
    peer_adapter,
    peer_net,
    write_net,
)
from ip_files import base_state, full_state
from narrow_models import narrow_model
from safetensors.torch import save_file
from tiny_model import CONFIG

from ldm.adapters.fitting import looked_at


@pytest.fixture(scope="module")
def model():
    return make_model()


def write(folder, state, name="x.safetensors", **metadata):
    whole = {key: value.contiguous() for key, value in state.items()}
    save_file(whole, folder / name, metadata or None)
    return folder / name


def test_a_control_net_fits_the_model_that_it_stands_beside(model, tmp_path):
    found = looked_at(write_net(tmp_path, model), model)
    assert (found.kind, found.fault, found.needs_encoder) == ("ControlNet", "", False)
    peer_net().save_pretrained(tmp_path / "folder")
    found = looked_at(tmp_path / "folder", model)
    assert (found.kind, found.fault) == ("ControlNet", "")


@pytest.mark.parametrize("kind", ["full_adapter", "light_adapter"])
def test_adapters_fit_under_either_programs_names(kind, model, tmp_path):
    state = peer_adapter(kind, 3).state_dict()
    expected = {"full_adapter": "T2I-Adapter", "light_adapter": "light T2I-Adapter"}[kind]
    for held in (state, original_names(state)):
        found = looked_at(write(tmp_path, held), model)
        assert (found.kind, found.fault) == (expected, "")


def test_what_is_made_for_other_models_says_so(model, tmp_path):
    wide = control_config()
    wide["model"]["params"]["unet_config"]["params"]["model_channels"] = 64
    path = write_net(tmp_path, narrow_model(wide))
    assert "widths 64; the model's has 32" in looked_at(path, model).fault
    state = {"control_model.input_hint_block.0.weight": torch.zeros(16, 3, 3, 3)}
    state["control_model.zero_convs.0.0.weight"] = torch.zeros(320, 320, 1, 1)
    key = "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    path = write(tmp_path, {**state, key: torch.zeros(320, 768)})
    assert looked_at(path, model).fault.startswith("made for v1; the model is one of models of")
    full = peer_adapter("full_adapter", 3).state_dict()
    full["adapter.conv_in.weight"] = torch.zeros(32, 768, 3, 3)
    assert looked_at(write(tmp_path, full), model).fault == "made for SDXL"


def test_an_image_prompt_needs_an_encoder_unless_it_names_the_models_own(model, tmp_path):
    one_level = narrow_model(CONFIG)
    path = write(tmp_path, base_state())
    found = looked_at(path, one_level)
    assert (found.kind, found.fault, found.needs_encoder) == ("IP-Adapter", "", True)
    path = write(tmp_path, full_state(), image_encoder="unet 4")
    assert not looked_at(path, one_level).needs_encoder
    assert "made for a UNet of" in looked_at(path, model).fault
    other = looked_at(write(tmp_path, base_state(context=768)), one_level).fault
    assert other.startswith("made for v1")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"lora_unet_x.lora_up.weight": torch.zeros(2, 2)}, "it is a LoRA"),
        ({"cat": torch.zeros(2)}, "it is of no known kind"),
        ({"x.position_net.linears.0.weight": torch.zeros(2)}, "a GLIGEN file"),
        ({"ip_adapter.1.to_k_ip.weight": torch.zeros(4, 32)}, "of the kind unknown"),
    ],
)
def test_other_files_are_of_no_kind_that_can_act(state, said, model, tmp_path):
    assert said in looked_at(write(tmp_path, state), model).fault


def test_no_file_makes_it_raise_and_no_pickle_is_run(model, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.safetensors").write_text("x")
    (tmp_path / "zip.pth").write_bytes(b"PK\x03\x04")
    torch.save({"a": print}, tmp_path / "code.pth")
    for name in ("empty", "text.safetensors", "zip.pth", "code.pth", "gone.pt"):
        assert looked_at(tmp_path / name, model).fault == "it cannot be read as weights", name

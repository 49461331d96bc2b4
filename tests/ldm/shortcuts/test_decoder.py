"""Tiny decoders: diffusers' numbers, every layout, and refusals that name what is wrong."""

from __future__ import annotations

import json

import pytest
import torch
from narrow_models import narrow_config, narrow_model
from safetensors.torch import save_file
from tiny_decoders import tiny

from ldm.errors import UserError
from ldm.shortcuts.decoder import check_fit, decoder_file, decoding_by, read_decoder


def taesds(model):
    """A decoder's weights under the names of ``taesd_decoder``."""
    state = model.decoder.layers.state_dict()
    parts = (name.split(".", 1) for name in state)
    return {f"{int(n) + 1}.{rest}": state[f"{n}.{rest}"].clone() for n, rest in parts}


@pytest.fixture(scope="module")
def peer():
    return tiny()


@pytest.fixture(scope="module")
def latents():
    return 2.0 * torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(1))


def write(folder, form, peer):
    if form == "folder":
        peer.save_pretrained(folder / "tiny")
        return folder / "tiny"
    if form == "file of the folder":
        peer.save_pretrained(folder / "tiny")
        return folder / "tiny" / "diffusion_pytorch_model.safetensors"
    if form == "safetensors":
        save_file(taesds(peer), folder / "taesd_decoder.safetensors")
        return folder / "taesd_decoder.safetensors"
    torch.save(taesds(peer), folder / "taesd_decoder.pth")
    return folder / "taesd_decoder.pth"


@pytest.mark.parametrize("form", ["safetensors", "pth", "folder", "file of the folder"])
def test_every_layout_decodes_as_diffusers_does(tmp_path, form, peer, latents):
    decoder = read_decoder(write(tmp_path, form, peer))
    with torch.no_grad():
        ours, theirs = decoder(latents), peer.decode(latents).sample
    assert ours.shape == (2, 3, 48, 40) and (decoder.in_channels, decoder.factor) == (4, 8)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_layers_are_taesds(tmp_path, peer):
    """Convolutions and blocks stand where the released file has them."""
    decoder = read_decoder(write(tmp_path, "safetensors", peer))
    names = [type(layer).__name__ for layer in decoder]
    block, up = ["TinyBlock"] * 3, ["Upsample", "Conv2d"]
    assert names == ["Bend", "Conv2d", "ReLU", *(block + up) * 3, "TinyBlock", "Conv2d"]
    assert decoder[7].bias is None and decoder[1].bias is not None


def test_decoders_of_other_depths_and_widths_are_read_too(tmp_path, latents):
    peer = tiny(widths=(16, 16, 16), blocks=(2, 1, 1))
    decoder = read_decoder(write(tmp_path, "folder", peer))
    with torch.no_grad():
        assert torch.allclose(decoder(latents), peer.decode(latents).sample, atol=1e-5)
    assert decoder.factor == 4


def test_a_folders_scaling_factor_divides_the_latents(tmp_path, latents):
    peer = tiny(scaling_factor=0.5)
    decoder = read_decoder(write(tmp_path, "folder", peer))
    with torch.no_grad():
        assert torch.allclose(decoder(latents), peer.decode(latents / 0.5).sample, atol=1e-5)


def test_inside_the_block_the_models_latents_are_decoded_by_it(tmp_path):
    model = narrow_model(narrow_config("v1"), seed=1)
    peer = tiny(widths=(8, 8), blocks=(1, 1))
    decoder, z = read_decoder(write(tmp_path, "folder", peer)), torch.randn(1, 4, 8, 8)
    check_fit(decoder, model, "tiny")
    plain = model.decode_first_stage(z)
    with decoding_by(model, decoder), torch.no_grad():
        # The diffusion's latents, with the model's scale_factor in: AutoencoderTiny's own.
        assert torch.allclose(model.decode_first_stage(z), peer.decode(z).sample, atol=1e-5)
    assert torch.equal(model.decode_first_stage(z), plain)
    assert "decode_first_stage" not in vars(model)


def test_a_decoder_of_other_latents_is_refused(tmp_path, peer):
    model = narrow_model(narrow_config("v1"), seed=1)
    decoder = read_decoder(write(tmp_path, "pth", peer))
    with pytest.raises(UserError, match="8 times as large; the model's latents have 4 channels"):
        check_fit(decoder, model, "x.pth")


def spoiled(state, how):
    if how == "missing":
        del state["3.conv.2.weight"]
    elif how == "misshapen":
        state["3.conv.2.weight"] = state["3.conv.2.weight"][:, :2].clone()
    elif how == "unknown":
        state["blocks.weight"] = torch.zeros(1)
    elif how == "not finite":
        state["1.bias"][0] = float("nan")
    elif how == "another network":
        state = {"encoder.conv_in.weight": torch.zeros(4, 3, 3, 3)}
    elif how == "huge":
        state["100000000.weight"] = torch.zeros(3, 8, 3, 3)
    return state


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "3.conv.2.weight missing"),
        ("misshapen", r"3.conv.2.weight \(8, 2, 3, 3\) in place of \(8, 8, 3, 3\)"),
        ("unknown", "no such decoder has: 'blocks.weight'"),
        ("not finite", "NaN or infinite"),
        ("another network", "not those of a tiny decoder"),
        ("huge", "not those of a tiny decoder"),
    ],
)
def test_files_that_are_no_such_decoder_are_refused_in_a_line(tmp_path, peer, how, said):
    path = tmp_path / "taesd_decoder.safetensors"
    save_file(spoiled(taesds(peer), how), path)
    with pytest.raises(UserError, match=said) as caught:
        read_decoder(path)
    assert "\n" not in str(caught.value) and "taesd_decoder.safetensors" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"), [("act_fn", "silu"), ("upsampling_scaling_factor", 4), ("scaling_factor", 0)]
)
def test_configurations_of_other_decoders_are_refused_by_name(tmp_path, peer, name, value):
    folder = write(tmp_path, "folder", peer)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, name: value}))
    with pytest.raises(UserError, match=name):
        read_decoder(folder)


def test_missing_files_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="is a folder without diffusion_pytorch_model"):
        decoder_file(tmp_path)
    with pytest.raises(UserError):
        read_decoder(tmp_path / "gone.safetensors")

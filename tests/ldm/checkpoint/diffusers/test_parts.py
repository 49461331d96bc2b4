"""Parts of a file that are in diffusers' layout fill the model's own to the bit."""

from __future__ import annotations

import pytest
import torch
from golden_keys import V1, recorded_keys
from narrow_models import narrow_config, narrow_model
from omegaconf import OmegaConf

from ldm.checkpoint.diffusers import keymaps, text_keymaps
from ldm.checkpoint.diffusers.parts import from_diffusers
from ldm.checkpoint.load import load_component, load_weights
from ldm.config import build
from ldm.errors import UserError
from ldm.util import instantiate_from_config

VAE, TEXT, UNET = "first_stage_model.", "cond_stage_model.", "model.diffusion_model."
PLAIN = {"channel_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attention_resolutions": [4, 2, 1]}
UNETS = {
    "v1": PLAIN,
    "attention in the middle": {**PLAIN, "channel_mult": [1, 2, 3], "attention_resolutions": [2]},
    "attention at the bottom": {**PLAIN, "attention_resolutions": [8]},
    "blocks by level": {**PLAIN, "channel_mult": [1, 2], "num_res_blocks": [1, 3]},
    "one level": {**PLAIN, "channel_mult": [1], "num_res_blocks": 1},
}


@pytest.fixture(scope="module", params=["v1", "v2"])
def kind(request):
    return OmegaConf.create(narrow_config(request.param))


@pytest.fixture(scope="module")
def model(kind):
    return narrow_model(kind)


@pytest.fixture
def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def in_diffusers_layout(state, config, *, old=False):
    """Split a model's weights into parts by diffusers' names."""
    params = OmegaConf.to_container(config.model.params)
    parts = keymaps.split_parts(state)
    ddconfig = params["first_stage_config"]["params"]["ddconfig"]
    text, is_clip = parts["text_encoder"], f"{TEXT}model.ln_final.weight" not in state
    if is_clip:
        text = text_keymaps.clip_to_transformers(text)
    else:
        layers = text_keymaps.count_layers(text)
        text, _ = text_keymaps.open_clip_to_transformers(text, layers)
    return {
        "unet": keymaps.unet_to_diffusers(parts["unet"], params["unet_config"]["params"]),
        "vae": keymaps.vae_to_diffusers(parts["vae"], ddconfig, old_names=old),
        "text_encoder": text,
    }


def drawn_from(model):
    """Return the weights on which pictures depend: diffusers' layout has no other."""
    unused = tuple(f"{TEXT}model.{name}" for name in text_keymaps.OPEN_CLIP_UNUSED)
    return {n: v for n, v in model.state_dict().items() if not n.startswith(unused)}


@pytest.mark.parametrize("old", [False, True], ids=["to_q", "query"])
@pytest.mark.parametrize("only_vae", [False, True], ids=["all parts", "the VAE alone"])
def test_a_file_with_parts_in_diffusers_layout_fills_the_model(only_vae, old, kind, model, state):
    parts = in_diffusers_layout(state, kind, old=old)
    content = {f"{part}.{n}": v for part, held in parts.items() for n, v in held.items()}
    if only_vae:
        content = {n: v for n, v in state.items() if not n.startswith(VAE)}
        content |= {VAE + name: value for name, value in parts["vae"].items()}
    expected = {name: value.clone() for name, value in drawn_from(model).items()}
    for parameter in model.parameters():
        parameter.data.zero_()
    load_weights(model, content)
    for name, value in drawn_from(model).items():
        assert torch.equal(value, expected[name]), name
    model.load_state_dict(state)


@pytest.mark.parametrize("prefix", ["", "vae."])
@pytest.mark.parametrize("old", [False, True], ids=["to_q", "query"])
def test_an_autoencoder_loads_from_diffusers_own_file(old, prefix, kind, state, tmp_path):
    held = {prefix + n: v for n, v in in_diffusers_layout(state, kind, old=old)["vae"].items()}
    torch.save(held, tmp_path / "diffusion_pytorch_model.bin")
    model = build(OmegaConf.create({"model": kind.model.params.first_stage_config}))
    load_component(model, tmp_path / "diffusion_pytorch_model.bin", prefix=VAE)
    assert all(torch.equal(v, state[VAE + n]) for n, v in model.state_dict().items())


def test_a_unet_alone_in_diffusers_layout_loads_where_only_the_model_is_wanted(
    kind, model, state, tmp_path
):
    torch.save(in_diffusers_layout(state, kind)["unet"], tmp_path / "unet.bin")
    for parameter in model.model.parameters():
        parameter.data.zero_()
    model.init_from_ckpt(str(tmp_path / "unet.bin"), only_model=True)
    assert all(torch.equal(v, state[n]) for n, v in model.state_dict().items())


@pytest.mark.parametrize("config", UNETS.values(), ids=UNETS)
def test_the_models_names_tell_every_form_of_unet(config):
    params = {"image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 32, **config}
    params |= {"num_heads": 4, "use_spatial_transformer": True, "context_dim": 16, "legacy": False}
    target = "ldm.modules.diffusionmodules.openaimodel.UNetModel"
    with torch.device("meta"):
        own = instantiate_from_config({"target": target, "params": params}).state_dict()
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    found = from_diffusers(shapes, keymaps.unet_to_diffusers(own, params))
    assert {name: tuple(value.shape) for name, value in found.items()} == shapes


def test_stable_diffusions_autoencoder_is_found_by_its_official_names():
    official = {n: tuple(s) for n, s in recorded_keys()[V1].items() if n.startswith(VAE)}
    own = {n.removeprefix(VAE): torch.empty(s, device="meta") for n, s in official.items()}
    config = {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2}
    for old in (False, True):
        theirs = keymaps.vae_to_diffusers(own, config, old_names=old)
        found = from_diffusers(official, theirs)
        assert {name: tuple(value.shape) for name, value in found.items()} == official


def test_anothers_part_stays_as_it_is_and_the_refusal_says_what_it_looks_like(kind, model, state):
    vae = in_diffusers_layout(state, kind)["vae"]
    deeper = {n.replace("down_blocks.0", "down_blocks.7"): v for n, v in vae.items()} | vae
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert from_diffusers(shapes, deeper).keys() == deeper.keys()
    with pytest.raises(UserError, match="an autoencoder in diffusers' layout"):
        load_weights(model, deeper)


def test_a_file_in_our_own_layout_is_returned_as_it_is(state):
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert from_diffusers(shapes, state) == state

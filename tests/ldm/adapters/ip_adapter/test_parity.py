"""The same numbers as diffusers' IP-Adapter on random weights; CLIP as transformers has it.

Differences of 1e-5 are float32 rounding: the order of sums differs.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from ip_files import FEATURES, base_state, full_state, plus_state, write_bin, write_flat
from narrow_models import narrow_model
from peer_unet import STEPS, peer_draw, peer_of
from PIL import Image
from tiny_model import CONFIG

from ldm.adapters.ip_adapter import read_ip_adapter
from ldm.adapters.ip_adapter.encoders import ClipEncoder
from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler

STATES = {"base": base_state, "plus": plus_state, "full-face": full_state}
SIZES = {
    "hidden_size": FEATURES,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
    "projection_dim": FEATURES,
}


@pytest.fixture(scope="module")
def model():
    return narrow_model(CONFIG)


@pytest.fixture(scope="module")
def vision():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = transformers.CLIPVisionConfig(**SIZES, initializer_factor=20.0)
        return transformers.CLIPVisionModelWithProjection(config).eval()


@pytest.fixture(scope="module")
def folder(vision, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    vision.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))


def peer_with(model, *states):
    peer = peer_of(model)
    nested = []
    for state in states:
        parts = {"image_proj": {}, "ip_adapter": {}}
        for name, value in state.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = value
        nested.append(parts)
    peer._load_ip_adapter_weights(nested)
    return peer


@torch.no_grad()
def features_of(vision, folder, pictures, kind):
    """Return diffusers' [no picture, pictures] features: (2, pictures, ...)."""
    pixels = torch.cat([ClipEncoder(folder).prepare(np.asarray(p)[None]) for p in pictures])
    if kind == "base":
        found = vision(pixels).image_embeds
        return torch.stack([torch.zeros_like(found), found])
    blank = torch.zeros_like(pixels)
    both = [vision(each, output_hidden_states=True).hidden_states[-2] for each in (blank, pixels)]
    return torch.stack(both)


def set_scale(peer, *scales):
    for processor in peer.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = list(scales)


@pytest.fixture(scope="module")
def inputs():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, 8, 8, generator=generator)
    return x, *torch.randn(2, 1, 77, 32, generator=generator)


@pytest.mark.parametrize("kind", STATES)
def test_eps_and_a_drawing_are_diffusers(kind, model, vision, folder, picture, inputs, tmp_path):
    state = STATES[kind]()
    read = read_ip_adapter(write_bin(tmp_path / "a.bin", state), encoder=folder)
    peer, embeds = peer_with(model, state), features_of(vision, folder, [picture], kind)
    set_scale(peer, 0.7)
    x, uncond, cond = inputs

    @torch.no_grad()
    def theirs(x, t):
        more = {"image_embeds": [embeds]}
        return peer(x, t, torch.cat([uncond, cond]), added_cond_kwargs=more).sample

    with read.attach(model, picture, scale=0.7), torch.no_grad():
        ours = model.apply_model(x, torch.tensor([400]), cond)
        drawn = draw(model, x, cond, uncond)
    expected = theirs(torch.cat([x, x]), torch.tensor([400, 400]))[1:]
    assert (ours - expected).abs().max() < 1e-5
    assert (model.apply_model(x, torch.tensor([400]), cond) - expected).abs().max() > 1e-3
    assert (drawn - peer_draw(theirs, x, 3.0)).abs().max() < 1e-4


def draw(model, x, cond, uncond):
    options = {"unconditional_conditioning": uncond, "unconditional_guidance_scale": 3.0}
    sampler = DDIMSampler(model)
    return sampler.sample(STEPS, 1, (4, 8, 8), cond, x_T=x, verbose=False, **options)[0]


def test_two_adapters_of_two_pictures_are_diffusers(
    model, vision, folder, picture, inputs, tmp_path
):
    other, (x, _, cond) = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM), inputs
    states = [base_state(), plus_state()]
    peer = peer_with(model, *states)
    set_scale(peer, 0.6, 0.3)
    embeds = [features_of(vision, folder, [picture, other], k)[1:] for k in ("base", "plus")]
    with torch.no_grad():
        more = {"image_embeds": embeds}
        expected = peer(x, torch.tensor([9]), cond, added_cond_kwargs=more).sample
    files = [write_flat(tmp_path / f"{i}.safetensors", s) for i, s in enumerate(states)]
    first, second = (read_ip_adapter(file, encoder=folder) for file in files)
    pictures = [picture, other]
    with first.attach(model, pictures, 0.6), second.attach(model, pictures, 0.3), torch.no_grad():
        ours = model.apply_model(x, torch.tensor([9]), cond)
    assert (ours - expected).abs().max() < 1e-5


def test_the_encoder_prepares_pictures_as_transformers_does(vision, folder, picture):
    slow = getattr(transformers, "CLIPImageProcessorPil", None)
    if slow is None:
        pytest.skip("this transformers prepares pictures with torchvision, whose resizing differs")
    sizes = {"size": {"shortest_edge": 16}, "crop_size": 16}
    pixels = slow(**sizes)(picture, return_tensors="pt").pixel_values
    assert (ClipEncoder(folder).prepare(np.asarray(picture)[None]) - pixels).abs().max() < 1e-5


@pytest.mark.parametrize("layout", ["whole CLIP", "classic", "bin"])
def test_the_folder_may_be_of_a_whole_clip_or_of_any_age(layout, vision, picture, tmp_path):
    if layout == "whole CLIP":
        text = {**SIZES, "vocab_size": 10, "max_position_embeddings": 4}
        config = transformers.CLIPConfig(text_config=text, vision_config=SIZES)
        config.projection_dim = FEATURES
        clip = transformers.CLIPModel(config)
        clip.vision_model.load_state_dict(vision.vision_model.state_dict())
        clip.visual_projection.load_state_dict(vision.visual_projection.state_dict())
        clip.save_pretrained(tmp_path)
    else:
        vision.config.save_pretrained(tmp_path)
        state = {n: v for n, v in vision.state_dict().items() if "position_ids" not in n}
        if layout == "bin":
            torch.save(state, tmp_path / "pytorch_model.bin")
        else:
            write_flat(tmp_path / "model.safetensors", state)
    encoder = ClipEncoder(tmp_path)
    pixels = encoder.prepare(np.asarray(picture)[None])
    with torch.no_grad():
        expected = vision(pixels).image_embeds
    assert torch.allclose(encoder([picture], hidden=False), expected, atol=1e-6)


@pytest.mark.parametrize("fault", ["empty", "no projection", "other sizes"])
def test_a_folder_that_is_no_encoder_is_refused_in_one_line(fault, vision, tmp_path):
    if fault != "empty":
        vision.save_pretrained(tmp_path)
    if fault == "no projection":
        vision.vision_model.save_pretrained(tmp_path)
    if fault == "other sizes":
        transformers.CLIPVisionConfig(**{**SIZES, "hidden_size": 8}).save_pretrained(tmp_path)
    with pytest.raises(UserError) as error:
        ClipEncoder(tmp_path)
    assert "\n" not in str(error.value) and "image encoder" in str(error.value)

"""The style adapter: its tokens, where they stand, and what the empty prompt has in their place."""

from __future__ import annotations

import pytest
import torch
import transformers
from control_parts import inputs, make_model
from safetensors.torch import save_file
from torch import nn

from ldm.adapters.control import read_control
from ldm.adapters.handle import require_unet
from ldm.errors import UserError
from ldm.modules.diffusionmodules.style_adapter import StyleAdapter

WIDTH = 16


@pytest.fixture(scope="module")
def model():
    return make_model().requires_grad_(False).eval()


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return StyleAdapter(WIDTH, 32, blocks=2).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("style") / "t2iadapter_style.safetensors"
    save_file(network.state_dict(), path)
    return path


def write_clip(folder, width=WIDTH):
    torch.manual_seed(1)
    sizes = {"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 2}
    config = transformers.CLIPVisionConfig(
        **sizes, num_attention_heads=2, image_size=32, patch_size=8, projection_dim=8
    )
    clip = transformers.CLIPVisionModelWithProjection(config).eval()
    clip.save_pretrained(folder)
    return clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    return folder, write_clip(folder)


@torch.no_grad()
def test_the_network_is_the_originals_transformer(network):
    """Recomputed with torch's own encoder layers, which hold the same weights."""
    layers = []
    for block in network.transformer_layes:
        gelu = lambda x: x * torch.sigmoid(1.702 * x)  # noqa: E731
        layer = nn.TransformerEncoderLayer(
            WIDTH, 8, 4 * WIDTH, 0.0, gelu, batch_first=True, norm_first=True
        ).eval()
        layer.self_attn.load_state_dict(block.attn.state_dict())
        layer.norm1.load_state_dict(block.ln_1.state_dict())
        layer.norm2.load_state_dict(block.ln_2.state_dict())
        layer.linear1.load_state_dict(block.mlp.c_fc.state_dict())
        layer.linear2.load_state_dict(block.mlp.c_proj.state_dict())
        layers.append(layer)
    states = torch.randn(2, 17, WIDTH)
    asked = network.style_embedding.expand(2, -1, -1)
    h = network.ln_pre(torch.cat([states, asked], 1))
    for layer in layers:
        h = layer(h)
    want = network.ln_post(h[:, -8:]) @ network.proj
    torch.testing.assert_close(network(states), want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_eight_tokens_stand_behind_the_prompt_and_the_empty_one_repeats_its_own(
    model, network, path, clip
):
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    picture = (picture * 255).round() / 255
    folder, vision = clip
    control = read_control(path, model)
    assert control.report.kind == "style adapter" and not control.report.warnings()
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    tokens = network(vision(pixel_values=(picture - mean) / std).last_hidden_state)
    x, t, context = inputs()
    longer = torch.cat([context, torch.stack([context[0, -8:], 0.5 * tokens[0]])], 1)
    unet = require_unet(model)
    with control.attach(model, picture, 0.5, clip=folder) as handle:
        handle.follower.tell(handle.follower.moment, 1, ("uncond", "cond"))
        named = unet(x, t, context=context)
        assert torch.equal(unet(x, t, context), named)
        handle.scale = 0.0
        assert torch.equal(unet(x, t, context), handle_free(unet, handle, x, t, context))
    torch.testing.assert_close(named, unet(x, t, longer), rtol=0, atol=1e-5)
    assert not unet._forward_pre_hooks


def handle_free(unet, handle, x, t, context):
    """Predict as if the handle were not there."""
    del handle
    return unet.forward(x, t, context)


def test_clip_is_asked_for_and_must_fit(model, path, tmp_path):
    control = read_control(path, model)
    picture = torch.rand(1, 3, 32, 32)
    with pytest.raises(UserError, match="needs CLIP to look at its picture"):
        control.attach(model, picture)
    write_clip(tmp_path, 32)
    with pytest.raises(UserError, match="states of width 32; the style adapter expects 16"):
        control.attach(model, picture, clip=tmp_path)
    with pytest.raises(UserError, match="control mode 'prompt' given for a style adapter"):
        control.attach(model, picture, mode="prompt", clip=tmp_path)


def test_one_for_another_width_is_refused(model, tmp_path):
    other = StyleAdapter(WIDTH, 768, blocks=1)
    save_file(other.state_dict(), tmp_path / "v1.safetensors")
    with pytest.raises(UserError, match="made for v1; the model is one of models of context width"):
        read_control(tmp_path / "v1.safetensors", model)

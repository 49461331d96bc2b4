"""DDPM's UNet: keys, sizes, and what its output depends on."""

from __future__ import annotations

import math

import pytest
import torch

from ldm.modules.diffusionmodules.model import Model, get_timestep_embedding

SIZES = {"ch": 32, "out_ch": 3, "in_channels": 3, "resolution": 16, "num_res_blocks": 2}


def build(**options) -> Model:
    torch.manual_seed(0)
    return Model(**SIZES, **{"ch_mult": (1, 2, 2), "attn_resolutions": [8], **options}).eval()


@pytest.mark.parametrize("dim", [8, 9])
def test_the_embedding_has_sines_first_and_reaches_its_longest_period(dim):
    waves = get_timestep_embedding(torch.tensor([0, 7]), dim)
    assert waves.shape == (2, dim)
    assert waves[0].tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * (dim - 8)
    periods = [10000 ** (i / 3) for i in range(4)]
    assert waves[1, :4].tolist() == pytest.approx([math.sin(7 / p) for p in periods], abs=1e-6)
    assert waves[1, 4:8].tolist() == pytest.approx([math.cos(7 / p) for p in periods], abs=1e-6)
    with pytest.raises(ValueError, match=r"expected \(B,\)"):
        get_timestep_embedding(torch.zeros(2, 1), dim)


def test_attention_stands_where_the_side_is_listed_and_skips_fit():
    model = build()
    assert [len(level.attn) for level in model.down] == [0, 2, 0]
    assert [len(level.attn) for level in model.up] == [0, 3, 0]
    # What comes from below, and the skips: 64 + 64, 64 + 64, 64 + 32 at the middle level.
    assert [block.in_channels for block in model.up[1].block] == [128, 128, 96]
    assert not hasattr(model.down[2], "downsample") and not hasattr(model.up[0], "upsample")


@torch.no_grad()
def test_the_prediction_depends_on_the_picture_the_step_and_the_maps():
    model, x, t = build(), torch.randn(2, 3, 16, 16), torch.ones(2)
    out = model(x, t)
    assert out.shape == x.shape
    assert not torch.allclose(out, model(x, t + 400), atol=1e-4)
    assert torch.allclose(out[:1], model(x[:1], t[:1]), atol=1e-5)
    with pytest.raises(ValueError, match="t is None"):
        model(x)


@torch.no_grad()
def test_maps_join_the_picture_on_its_channels():
    torch.manual_seed(0)
    model = Model(
        **SIZES | {"in_channels": 5}, ch_mult=(1,), attn_resolutions=[], use_timestep=False
    )
    x, maps = torch.randn(1, 3, 8, 8), torch.randn(1, 2, 8, 8)
    assert torch.equal(model(x, context=maps), model(torch.cat([x, maps], dim=1)))


@pytest.mark.parametrize("option", [{"use_linear_attn": True}, {"attn_type": "linear"}])
def test_linear_attention_is_said_in_two_ways(option):
    assert "down.1.attn.0.to_qkv.weight" in build(**option).state_dict()


def test_the_last_layer_is_the_last_convolution():
    model = build()
    assert model.get_last_layer() is model.conv_out.weight

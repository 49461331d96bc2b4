"""The UNet's first half with a pooling head."""

from __future__ import annotations

import pytest
import torch
from golden.fill import official_state

from ldm.errors import UserError
from ldm.modules.diffusionmodules.encoder_unet import AttentionPool2d
from ldm.modules.diffusionmodules.openaimodel import EncoderUNetModel, UNetModel

PARAMS = {
    "image_size": 8,
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 5,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2],
    "num_head_channels": 16,
}
# What guided-diffusion's class holds below ``out``, at 64 channels and 4x4 positions at the end.
HEADS = {
    "adaptive": {
        "out.0.weight": (64,),
        "out.0.bias": (64,),
        "out.3.weight": (5, 64, 1, 1),
        "out.3.bias": (5,),
    },
    "attention": {
        "out.0.weight": (64,),
        "out.0.bias": (64,),
        "out.2.positional_embedding": (64, 17),
        "out.2.qkv_proj.weight": (192, 64, 1),
        "out.2.qkv_proj.bias": (192,),
        "out.2.c_proj.weight": (5, 64, 1),
        "out.2.c_proj.bias": (5,),
    },
    # 32 and 32 of the first level, 32 of its downsampling, 64 of the second, 64 of the middle.
    "spatial": {
        "out.0.weight": (2048, 224),
        "out.0.bias": (2048,),
        "out.2.weight": (5, 2048),
        "out.2.bias": (5,),
    },
    "spatial_v2": {
        "out.0.weight": (2048, 224),
        "out.0.bias": (2048,),
        "out.1.weight": (2048,),
        "out.1.bias": (2048,),
        "out.3.weight": (5, 2048),
        "out.3.bias": (5,),
    },
}


def build(pool: str, **changes) -> EncoderUNetModel:
    model = EncoderUNetModel(**{**PARAMS, "pool": pool, **changes}).eval()
    model.load_state_dict(official_state(model))
    return model


def inputs(side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, side, side, generator=generator), torch.tensor([1, 900])


@pytest.mark.parametrize("pool", HEADS)
def test_the_head_has_guided_diffusions_keys(pool):
    state = build(pool).state_dict()
    found = {name: tuple(v.shape) for name, v in state.items() if name.startswith("out.")}
    assert found == HEADS[pool]
    body = {name.split(".")[0] for name in state} - {"out"}
    assert body == {"time_embed", "input_blocks", "middle_block"}


@pytest.mark.parametrize("pool", HEADS)
@torch.no_grad()
def test_each_row_is_judged_by_itself_and_by_its_time(pool):
    model, (x, t) = build(pool), inputs()
    out = model(x, t)
    assert out.shape == (2, 5)
    alone = [model(x[i : i + 1], t[i : i + 1]) for i in range(2)]
    assert torch.allclose(out, torch.cat(alone), atol=1e-5)
    assert not torch.allclose(out, model(x, t.flip(0)), atol=1e-4)


@torch.no_grad()
def test_its_body_is_the_unets_first_half():
    encoder = build("adaptive")
    whole = UNetModel(**{**PARAMS, "out_channels": 3}).eval()
    body = {n: v for n, v in encoder.state_dict().items() if not n.startswith("out.")}
    assert not whole.load_state_dict(body, strict=False).unexpected_keys
    x, t = inputs()
    h, _, _ = whole.encode(x, t)
    assert torch.allclose(encoder.out(h), encoder(x, t), atol=1e-6)


@torch.no_grad()
def test_the_adaptive_head_is_a_linear_layer_on_the_mean():
    model, (x, t) = build("adaptive"), inputs()
    norm, act, _, last, _ = model.out
    seen = {}
    model.middle_block.register_forward_hook(lambda module, args, out: seen.update(h=out))
    out = model(x, t)
    mean = act(norm(seen["h"])).mean(dim=(2, 3))
    assert torch.allclose(out, mean @ last.weight[:, :, 0, 0].T + last.bias, atol=1e-5)


@torch.no_grad()
def test_attention_pooling_is_what_the_mean_attends_to():
    pool = AttentionPool2d(2, 8, 4, output_dim=3)
    pool.load_state_dict(official_state(pool))
    x = torch.randn(1, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    tokens = x.flatten(2)[0].T  # (N, C)
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + pool.positional_embedding.T
    weight, bias = pool.qkv_proj.weight[:, :, 0], pool.qkv_proj.bias
    q, k, v = (tokens @ weight.T + bias).split(8, dim=1)
    heads = [
        torch.softmax(q[0, part] @ k[:, part].T / 4**0.5, dim=0) @ v[:, part]
        for part in (slice(0, 4), slice(4, 8))
    ]
    expected = pool.c_proj.weight[:, :, 0] @ torch.cat(heads) + pool.c_proj.bias
    assert torch.allclose(pool(x)[0], expected, atol=1e-5)


@torch.no_grad()
def test_only_attention_pooling_is_bound_to_its_size():
    for pool in ("adaptive", "spatial", "spatial_v2"):
        assert build(pool)(*inputs(side=16)).shape == (2, 5)
    with pytest.raises(ValueError, match="64 positions.*made for 16"):
        build("attention")(*inputs(side=16))


def test_a_fresh_adaptive_classifier_has_no_opinion():
    model = EncoderUNetModel(**PARAMS)
    assert torch.equal(model(*inputs()), torch.zeros(2, 5))


def test_half_weights_take_float_inputs():
    model = build("spatial_v2", use_fp16=True)
    assert model.dtype == torch.float16
    assert model.bfloat16()(*inputs()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pool": "mean"}, "adaptive, attention, spatial, spatial_v2"),
        ({"pool": "attention", "num_head_channels": -1}, "num_head_channels"),
        ({"pool": "attention", "num_head_channels": 24, "attention_resolutions": []}, "24"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        EncoderUNetModel(**{**PARAMS, **changes})

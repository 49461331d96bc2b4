"""The UNet in both forms, its halves, and its building blocks."""

from __future__ import annotations

import pytest
import torch

from ldm.errors import UserError
from ldm.modules.diffusionmodules.openaimodel import AttentionBlock, ResBlock, UNetModel
from ldm.modules.diffusionmodules.util import (
    make_ddim_sampling_parameters,
    noise_like,
    normalization,
    timestep_embedding,
)

BASE = {
    "image_size": 8,
    "in_channels": 4,
    "model_channels": 32,
    "out_channels": 4,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2],
}
FORMS = {
    "transformer": {"num_heads": 4, "use_spatial_transformer": True, "context_dim": 6},
    "plain": {"num_head_channels": 16},
    "plain with legacy heads": {"num_heads": 2, "legacy": True},
    "plain, new order, resampling in blocks": {
        "num_head_channels": 16,
        "use_new_attention_order": True,
        "resblock_updown": True,
        "use_scale_shift_norm": True,
    },
    "class-conditional": {"num_head_channels": 16, "num_classes": 5},
    "without learned resampling": {"num_heads": 2, "conv_resample": False},
}


def make(form: str) -> tuple[UNetModel, dict]:
    torch.manual_seed(0)
    model = UNetModel(**BASE, **FORMS[form]).eval()
    for parameter in model.parameters():  # the zero-initialised layers would hide everything
        torch.nn.init.normal_(parameter, std=0.1)
    inputs = {"x": torch.randn(2, 4, 8, 8), "timesteps": torch.tensor([3, 700])}
    if "context_dim" in FORMS[form]:
        inputs["context"] = torch.randn(2, 5, 6)
    if "num_classes" in FORMS[form]:
        inputs["y"] = torch.tensor([0, 4])
    return model, inputs


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_every_form_predicts_and_its_halves_compose_to_it(form):
    model, inputs = make(form)
    whole = model(**inputs)
    assert whole.shape == (2, 4, 8, 8) and whole.isfinite().all()
    h, emb, skips = model.encode(**inputs)
    kept = list(skips)
    assert torch.equal(model.decode(h, emb, skips, inputs.get("context")), whole)
    assert all(a is b for a, b in zip(kept, skips, strict=True))
    with pytest.raises(ValueError, match="skips given"):
        model.decode(h, emb, skips[:-1], inputs.get("context"))


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_rows_of_a_batch_do_not_touch_and_inputs_stay(form):
    model, inputs = make(form)
    before = {name: value.clone() for name, value in inputs.items()}
    both = model(**inputs)
    for row in range(2):
        single = model(**{name: value[row : row + 1] for name, value in inputs.items()})
        assert torch.allclose(both[row : row + 1], single, atol=1e-5)
    assert all(torch.equal(inputs[name], before[name]) for name in inputs)


@torch.no_grad()
def test_time_context_and_class_matter():
    for form, name in (("transformer", "context"), ("class-conditional", "y")):
        model, inputs = make(form)
        for key in ("timesteps", name):
            changed = {**inputs, key: inputs[key].flip(0)}
            assert not torch.allclose(model(**inputs), model(**changed))


@torch.no_grad()
def test_half_weights_take_float_inputs():
    model, inputs = make("transformer")
    out = model.to(torch.bfloat16)(**inputs)
    assert model.dtype == out.dtype == torch.bfloat16


def test_unfit_parameters_are_refused_in_words():
    with pytest.raises(UserError, match="go together"):
        UNetModel(**BASE, num_heads=2, use_spatial_transformer=True)
    with pytest.raises(UserError, match="num_heads or num_head_channels"):
        UNetModel(**BASE)
    with pytest.raises(UserError, match="cannot be split"):
        AttentionBlock(32, num_head_channels=24)


def test_labels_go_with_classes():
    model, inputs = make("plain")
    with pytest.raises(ValueError, match="num_classes"):
        model(**inputs, y=torch.tensor([0, 1]))


def test_a_fresh_res_block_is_its_skip():
    block = ResBlock(32, 16, dropout=0.0)
    x = torch.randn(2, 32, 4, 4)
    assert torch.equal(block(x, torch.randn(2, 16)), x)


def test_attention_orders_differ_only_in_the_layout_of_weights():
    torch.manual_seed(0)
    old, new = (AttentionBlock(32, num_heads=2, use_new_attention_order=o) for o in (False, True))
    torch.nn.init.normal_(old.proj_out.weight)
    weights = old.state_dict()
    for name in ("qkv.weight", "qkv.bias"):
        value = weights[name]
        grouped = value.reshape(2, 3, 16, *value.shape[1:])  # heads, qkv, d
        weights[name] = grouped.transpose(0, 1).reshape(value.shape)
    new.load_state_dict(weights)
    x = torch.randn(2, 32, 3, 3)
    assert torch.allclose(old(x), new(x), atol=1e-5)


def test_the_time_embedding_has_cosines_first():
    emb = timestep_embedding(torch.tensor([0.0, 1.5]), 6)
    assert emb[0].tolist() == [1, 1, 1, 0, 0, 0]
    assert emb[1, 0].item() == pytest.approx(torch.tensor(1.5).cos().item())
    assert timestep_embedding(torch.tensor([1]), 7).shape == (1, 7)


def test_the_norm_keeps_its_input_s_dtype_under_autocast():
    x = torch.randn(1, 32, 2, 2).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert normalization(32)(x).dtype == torch.bfloat16


def test_eta_one_is_ddpm_s_variance():
    import numpy as np

    alphas = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))
    steps = np.arange(1, 1000)
    sigmas, a, prev = make_ddim_sampling_parameters(alphas, steps, 1.0)
    assert np.allclose(sigmas[1:] ** 2, ((1 - prev) / (1 - a) * (1 - a / prev))[1:])
    assert (make_ddim_sampling_parameters(alphas, steps, 0.0)[0] == 0).all()


def test_repeated_noise_is_the_same_in_every_row():
    noise = noise_like((3, 2, 2), "cpu", repeat=True)
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(*noise_like((2, 4), "cpu"))


@torch.no_grad()
def test_the_time_embedding_scales_and_shifts_the_second_norm():
    torch.manual_seed(0)
    block = ResBlock(32, 16, dropout=0.0, use_scale_shift_norm=True)
    torch.nn.init.normal_(block.out_layers[3].weight)
    x, emb = torch.randn(2, 32, 4, 4), torch.randn(2, 16)
    scale, shift = block.emb_layers(emb)[:, :32], block.emb_layers(emb)[:, 32:]
    norm, *rest = block.out_layers
    h = norm(block.in_layers(x)) * (1 + scale[..., None, None]) + shift[..., None, None]
    torch.testing.assert_close(block(x, emb), x + torch.nn.Sequential(*rest)(h))


@torch.no_grad()
def test_a_skip_is_joined_behind_what_comes_from_below():
    model, inputs = make("transformer")
    h, emb, skips = model.encode(**inputs)
    met = []
    model.output_blocks[0].register_forward_pre_hook(lambda _, given: met.append(given[0]))
    model.decode(h, emb, skips, inputs["context"])
    assert torch.equal(met[0], torch.cat([h, skips[-1]], dim=1))

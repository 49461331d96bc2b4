"""Merged tokens in a UNet: where, by which formula, and without touching random numbers."""

from __future__ import annotations

import pytest
import torch
from narrow_models import narrow_config, narrow_model

from ldm.errors import UserError
from ldm.modules.attention_control.moments import LISTENERS, Moment
from ldm.modules.attention_control.sites import sites_of
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.process.token_merging import match
from ldm.shortcuts.merging import largest, merging


@pytest.fixture(scope="module")
def model():
    return narrow_model(narrow_config("v1"), seed=1)


@pytest.fixture(scope="module")
def given():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    return x, torch.tensor([700, 20]), torch.randn(2, 77, 32, generator=generator)


def predict(model, given):
    with torch.no_grad():
        return model.model.diffusion_model(*given)


def test_no_merging_is_plain_to_the_bit_and_merging_leaves_no_trace(model, given):
    plain = predict(model, given)
    with merging(model, 0.0, 0):
        assert torch.equal(predict(model, given), plain)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with merging(model, 0.5, 0):
        merged = predict(model, given)
        assert torch.equal(predict(model, given), merged)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.allclose(merged, plain)
    assert torch.equal(predict(model, given), plain) and not len(LISTENERS)
    assert not any("forward" in vars(each) for each in model.modules())


def test_the_more_is_merged_the_further_the_prediction_is_off(model, given):
    plain, errors = predict(model, given), []
    for ratio in (0.1, 0.4, 0.75):
        with merging(model, ratio, 0):
            errors.append(float((predict(model, given) - plain).square().mean()))
    assert 0 < errors[0] < errors[1] < errors[2]


def test_the_layers_are_the_largest_ones_of_self_attention(model):
    with merging(model, 0.5, 0) as merged:
        assert merged.layers and all(name.endswith("attn1") for name in merged.layers)
        # In this UNet attention stands at half of the latents' sides alone, and in the middle.
        assert len(merged.layers) == len(
            [name for name, _ in model.named_modules() if name.endswith("attn1")]
        )


def test_of_layers_at_several_sizes_only_the_largest_merge():
    unet = UNetModel(**narrow_config("other")["model"]["params"]["unet_config"]["params"])
    rates = {site: site.rate for site in sites_of(unet) if site.kind == "self"}
    assert {*rates.values()} == {1, 4}
    assert [*largest(unet)] == [site for site, rate in rates.items() if rate == 1]


def test_a_layer_attends_as_the_formula_says(model, given):
    with merging(model, 0.5, 7) as merged:
        predict(model, given)  # a call says how large the latents are
        merged.follower.tell(Moment(3, 5, 400.0, evaluation=1), 2, ("cond",))
        layer = model.model.diffusion_model.get_submodule(merged.layers[0])
        x = torch.randn(2, 16, layer.to_q.in_features)
        with torch.no_grad():
            found = layer(x)
            seed = 7 + (2 * 3 + 1) * 1_000_003
            matching = match(x, (4, 4), 0.5, torch.Generator().manual_seed(seed))
            own = type(layer).forward
            assert torch.equal(found, matching.unmerge(own(layer, matching.merge(x))))
            context = torch.randn(2, 3, layer.to_k.in_features)
            assert torch.equal(layer(x, context=context), own(layer, x, context=context))


def test_steps_have_destinations_of_their_own_and_batches_have_not(model, given):
    x, t, context = given
    with merging(model, 0.5, 0) as merged:
        both = predict(model, given)
        alone = predict(model, (x[1:], t[1:], context[1:]))
        assert torch.allclose(both[1:], alone, atol=1e-5)
        merged.follower.tell(Moment(1, 5, 400.0), 2, ("cond",))
        assert not torch.allclose(predict(model, given), both)


def test_a_unet_without_such_attention_is_refused(model):
    from small_hubs import pixels

    refused = pytest.raises(UserError, match="--merge_tokens was given for a UNetModel without")
    with refused, merging(pixels(), 0.5, 0):
        pass

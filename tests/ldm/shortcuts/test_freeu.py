"""FreeU: nothing at ones, diffusers' numbers at others, and no trace afterwards."""

from __future__ import annotations

import pytest
import torch
from narrow_models import narrow_config, narrow_model
from peer_unet import peer_of

from ldm.errors import UserError
from ldm.shortcuts.freeu import FreeU, freed, scale_low

SCALES = 1.5, 1.6, 0.9, 0.2


@pytest.fixture(scope="module")
def model():
    return narrow_model(narrow_config("v1"), seed=1)


@pytest.fixture
def given():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    return x, torch.tensor([700, 20]), torch.randn(2, 77, 32, generator=generator)


def test_ones_change_nothing_to_the_bit_and_others_leave_no_trace(model, given):
    unet = model.model.diffusion_model
    with torch.no_grad():
        plain = unet(*given)
        with freed(model, 1.0, 1.0, 1.0, 1.0):
            assert torch.equal(unet(*given), plain)
        with freed(model, *SCALES):
            assert not torch.allclose(unet(*given), plain)
        assert torch.equal(unet(*given), plain)
    assert "joints" not in vars(unet)


def test_the_unet_predicts_what_diffusers_predicts_with_it(model, given):
    x, t, context = given
    peer = peer_of(model)
    b1, b2, s1, s2 = SCALES
    peer.enable_freeu(s1=s1, s2=s2, b1=b1, b2=b2)
    with torch.no_grad(), freed(model, *SCALES):
        ours = model.model.diffusion_model(x, t, context)
        theirs = peer(x, t, context).sample
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("side", [(8, 8), (5, 6), (2, 3), (7, 9)])
def test_the_filter_is_diffusers_at_even_and_odd_sides(side):
    from diffusers.utils.torch_utils import fourier_filter

    x = torch.randn(2, 3, *side, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(scale_low(x, 0.3), fourier_filter(x, 1, 0.3), atol=1e-6)


def test_the_filter_scales_the_mean_and_keeps_what_is_fast():
    x = torch.full((1, 1, 8, 8), 2.0)
    checks = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1.0
    assert torch.allclose(scale_low(x + checks, 0.25), 0.25 * x + checks, atol=1e-6)


def test_half_of_the_channels_of_the_two_deepest_levels_are_scaled(model):
    change = FreeU(model.model.diffusion_model, (2.0, 3.0), (1.0, 1.0))
    h, skip = torch.ones(1, 4, 2, 2), torch.ones(1, 2, 2, 2)
    blocks = [change(number, h, skip)[0][0, :, 0, 0].tolist() for number in range(4)]
    assert blocks == [[2.0, 2.0, 1.0, 1.0]] * 2 + [[3.0, 3.0, 1.0, 1.0]] * 2
    assert change(4, h, skip)[0] is h


def test_a_unet_without_levels_is_refused():
    with pytest.raises(UserError, match="--freeu was given for a Linear"):
        FreeU(torch.nn.Linear(1, 1), (1.0, 1.0), (1.0, 1.0))

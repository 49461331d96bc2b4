"""Coders that change sizes: what comes out, and what it is made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldm.errors import UserError
from ldm.modules.diffusionmodules.model import (
    FirstStagePostProcessor,
    LatentRescaler,
    MergedRescaleDecoder,
    MergedRescaleEncoder,
    Resize,
    SimpleDecoder,
    UpsampleDecoder,
    Upsampler,
)
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution

LEVELS = {"num_res_blocks": 1, "attn_resolutions": [], "ch_mult": (1, 2), "resolution": 16}


@pytest.mark.parametrize(
    ("coder", "x", "expected"),
    [
        (lambda: SimpleDecoder(32, 3, "unused", also=1), (1, 32, 4, 6), (1, 3, 8, 12)),
        (lambda: UpsampleDecoder(32, 3, 32, 1, 16, (1, 2, 1)), (1, 32, 4, 5), (1, 3, 16, 20)),
        (lambda: LatentRescaler(0.5, 4, 32, 6), (1, 4, 7, 9), (1, 6, 4, 4)),
        (lambda: LatentRescaler(1.5, 4, 32, 6, depth=1), (1, 4, 4, 6), (1, 6, 6, 9)),
        (
            lambda: MergedRescaleEncoder(3, 32, out_ch=5, rescale_factor=0.5, **LEVELS),
            (1, 3, 16, 16),
            (1, 5, 4, 4),
        ),
        (
            lambda: MergedRescaleDecoder(32, 3, ch=32, rescale_factor=2.0, **LEVELS),
            (1, 32, 4, 4),
            (1, 3, 16, 16),
        ),
        (lambda: Upsampler(4, 16, 32, 3), (1, 32, 4, 4), (1, 3, 16, 16)),
    ],
)
@torch.no_grad()
def test_the_result_has_the_size_that_was_asked_for(coder, x, expected):
    assert coder()(torch.randn(x)).shape == expected


def test_sides_are_scaled_to_the_nearest_neighbour():
    layer, x = LatentRescaler(2.0, 4, 32, 4, depth=0), torch.randn(1, 4, 3, 3)
    nn.init.zeros_(layer.attn.proj_out.weight)
    nn.init.zeros_(layer.attn.proj_out.bias)
    expected = layer.conv_out(layer.conv_in(x).repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_resizing_keeps_the_mean_of_a_constant_and_does_nothing_at_one():
    x = torch.full((1, 2, 8, 8), 0.3)
    assert torch.allclose(Resize()(x, scale_factor=0.5), torch.full((1, 2, 4, 4), 0.3))
    assert Resize(mode="bicubic")(x) is x
    with pytest.raises(NotImplementedError):
        Resize(4, learned=True)


def test_an_upsampler_that_would_shrink_is_refused():
    with pytest.raises(UserError, match="out_size 2 given with in_size 4"):
        Upsampler(4, 2, 32, 3)


class Coder(nn.Module):
    """A first stage that returns a posterior."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 8, 2, stride=2)
        self.encoder.ch = 32

    def encode(self, x):
        return DiagonalGaussianDistribution(self.encoder(x))


def test_the_first_stage_is_read_by_its_mode_and_gets_no_gradient():
    coder = Coder()
    layer = FirstStagePostProcessor([1, 2], 4, pretrained_model=coder, reshape=True)
    x = torch.randn(2, 3, 32, 32)
    out = layer(x)
    assert out.shape == (2, 4 * 4, 64)
    assert torch.equal(layer.encode_with_pretrained(x), coder.encode(x).mean)
    out.sum().backward()
    assert coder.encoder.weight.grad is None and layer.proj.weight.grad is not None


def test_a_first_stage_from_a_config_is_frozen_and_one_is_needed():
    config = {"target": "torch.nn.Conv2d", "params": {"in_channels": 3, "out_channels": 4}}
    with pytest.raises(UserError, match="pretrained_config.params: Conv2d needs kernel_size"):
        FirstStagePostProcessor([1], 4, n_channels=32, pretrained_config=config)
    config["params"]["kernel_size"] = 1
    layer = FirstStagePostProcessor([1], 4, n_channels=32, pretrained_config=config)
    assert not any(p.requires_grad for p in layer.pretrained_model.parameters())
    with pytest.raises(UserError, match="no first stage given"):
        FirstStagePostProcessor([1], 4)

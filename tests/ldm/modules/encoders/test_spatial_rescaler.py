"""Maps as conditions."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d

from ldm.errors import UserError
from ldm.modules.encoders.modules import HybridConditioner, SpatialRescaler


def maps(channels: int = 5) -> torch.Tensor:
    return torch.randn(2, channels, 16, 24, generator=torch.Generator().manual_seed(0))


def test_each_stage_halves_the_sides_and_the_mixer_follows():
    rescaler = SpatialRescaler(n_stages=2, in_channels=5, out_channels=3)
    # Halving by bilinear weights is the mean of each 2x2 square.
    small = avg_pool2d(avg_pool2d(maps(), 2), 2)
    expected = conv2d(small, rescaler.channel_mapper.weight)
    assert expected.shape == (2, 3, 4, 6)
    assert torch.allclose(rescaler(maps()), expected, atol=1e-6)
    assert torch.equal(rescaler.encode(maps()), rescaler(maps()))


def test_without_out_channels_nothing_is_learned():
    rescaler = SpatialRescaler(n_stages=1)
    assert not rescaler.state_dict()
    assert rescaler(maps()).shape == (2, 5, 8, 12)
    assert torch.equal(SpatialRescaler(n_stages=0)(maps()), maps())


def test_the_method_multiplier_and_bias_are_the_configurations():
    rescaler = SpatialRescaler(n_stages=1, method="nearest", multiplier=0.25)
    assert torch.equal(rescaler(maps()), maps()[..., ::4, ::4])
    with_bias = SpatialRescaler(in_channels=182, out_channels=3, bias=True)
    shapes = {name: tuple(value.shape) for name, value in with_bias.state_dict().items()}
    assert shapes == {"channel_mapper.weight": (3, 182, 1, 1), "channel_mapper.bias": (3,)}


@pytest.mark.parametrize(
    ("options", "said"), [({"method": "cubic"}, "bicubic"), ({"n_stages": -1}, "0 or more")]
)
def test_what_cannot_be_built_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        SpatialRescaler(**options)


def test_a_hybrid_conditioner_gives_both_kinds_by_name():
    hybrid = HybridConditioner(
        {
            "target": "ldm.modules.encoders.modules.SpatialRescaler",
            "params": {"in_channels": 5, "out_channels": 3},
        },
        {
            "target": "ldm.modules.encoders.modules.ClassEmbedder",
            "params": {"embed_dim": 8, "n_classes": 4},
        },
    )
    given = hybrid(maps(), {"class": torch.tensor([1, 3])})
    assert {name: [tuple(t.shape) for t in values] for name, values in given.items()} == {
        "c_concat": [(2, 3, 8, 12)],
        "c_crossattn": [(2, 1, 8)],
    }
    assert {name.split(".")[0] for name in hybrid.state_dict()} == {
        "concat_conditioner",
        "crossattn_conditioner",
    }

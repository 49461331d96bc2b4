"""Convolutions in tiles compute what direct ones do, where they pay and where they can."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ldm.kernels import winograd
from ldm.kernels.prepare import Kernels, is_available, prepare

pytestmark = pytest.mark.skipif(not is_available(), reason="this torch has no oneDNN")


def apart(a, b):
    assert a.shape == b.shape
    return ((a - b).norm() / b.norm()).item()


def maps(b, c, h, w):
    return torch.randn(b, c, h, w, generator=torch.Generator().manual_seed(0))


def conv(c=8, k=12, **options):
    torch.manual_seed(1)
    return nn.Conv2d(c, k, 3, padding=1, **options).requires_grad_(False).eval()


def in_tiles(layer, x):
    weights = winograd.pack_tiles(layer.weight, x)
    return winograd.convolve(x, weights, layer.bias, layer.out_channels)


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(winograd, "pays", lambda layer, x: True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 8, 2, 2), (3, 8, 4, 6), (2, 8, 10, 4)])
def test_tiles_give_what_a_direct_convolution_gives(shape, bias):
    layer, x = conv(bias=bias), maps(*shape)
    exact = F.conv2d(
        x.double(), layer.weight.double(), layer.bias.double() if bias else None, padding=1
    )
    before = x.clone()
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        out = in_tiles(layer, given)
        assert apart(out.double(), exact) < 1e-6
        assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x, before)


def test_bfloat16_rounds_tiles_and_loses_less_than_a_hundredth():
    layer, x = conv(64, 64).bfloat16(), maps(2, 64, 8, 8).bfloat16()
    exact = F.conv2d(x.float(), layer.weight.float(), layer.bias.float(), padding=1)
    out = in_tiles(layer, x)
    assert out.dtype == torch.bfloat16
    assert apart(out.float(), exact) < 0.01


@pytest.mark.parametrize("rows", [0.5, 1, 2, 3, 7])
def test_maps_in_parts_of_any_size_give_the_same(monkeypatch, rows):
    layer, x = conv(), maps(3, 8, 10, 6)
    whole = in_tiles(layer, x)
    row = 16 * 4 * 8 * 3
    monkeypatch.setattr(winograd, "PART", int(rows * row))
    taken = list(winograd._parts(torch.Size((3, 10, 6, 8))))
    assert len(taken) > 1
    assert apart(in_tiles(layer, x), whole) < 1e-6


def test_a_part_is_no_larger_than_allowed_and_all_rows_are_in_one(monkeypatch):
    monkeypatch.setattr(winograd, "PART", 2**14)
    for shape in ((5, 4, 4, 16), (2, 32, 16, 8), (1, 8, 64, 32)):
        covered = torch.zeros(shape[0], shape[1] // 2)
        for images, first, last in winograd._parts(torch.Size(shape)):
            part = covered[images, first:last]
            part += 1
            size = part.numel() * 16 * 4 * shape[3] * (shape[2] // 2)
            assert size <= 2**14 or part.numel() == 1
        assert (covered == 1).all()


UNSUITED = {
    "odd height": (conv(), maps(1, 8, 5, 4)),
    "odd width": (conv(), maps(1, 8, 4, 7)),
    "stride": (conv(stride=2), maps(1, 8, 4, 4)),
    "dilation": (conv(dilation=2), maps(1, 8, 8, 8)),
    "1x1": (nn.Conv2d(8, 8, 1).requires_grad_(False).eval(), maps(1, 8, 4, 4)),
    "no padding": (nn.Conv2d(8, 8, 3).requires_grad_(False).eval(), maps(1, 8, 4, 4)),
}


@pytest.mark.parametrize("case", UNSUITED)
def test_what_cannot_be_cut_into_tiles_is_convolved_directly(case, always):
    layer, x = UNSUITED[case]
    assert not winograd.suits(layer, x)
    with torch.no_grad(), prepare(layer) as kernels:
        layer(x)
        direct, tiled = kernels._layers[0][1].weights
        assert direct.is_made and not tiled.is_made


def test_it_pays_for_many_channels_and_large_maps_alone():
    wide, narrow = conv(320, 320), conv(64, 64)
    assert winograd.pays(wide, maps(2, 320, 32, 32))
    assert not winograd.pays(wide, maps(2, 320, 4, 4))
    assert not winograd.pays(narrow, torch.empty(4, 64, 512, 512, device="meta"))
    assert not winograd.pays(conv(128, 128), maps(6, 128, 8, 8))


def test_bits_depend_neither_on_how_many_are_computed_together_nor_on_what_was_before():
    layer, large, small = conv(192, 192), maps(4, 192, 32, 32), maps(40, 192, 8, 8)
    with torch.no_grad():
        alone = []
        for x in (large, small):
            with prepare(layer):
                alone.append(layer(x[:1]))
        with prepare(layer) as kernels:
            together = [layer(x)[:1] for x in (large, small, large)]
            direct, tiled = kernels._layers[0][1].weights
            assert direct.is_made and tiled.is_made
    assert all(torch.equal(*pair) for pair in zip(alone, together, strict=False))
    assert torch.equal(together[2], together[0])


def test_changed_weights_are_never_stale(always):
    layer, x = conv(), maps(1, 8, 4, 4)
    with torch.no_grad(), prepare(layer):
        before = layer(x)
        layer.weight.mul_(2)
        after = layer(x) - layer.bias[:, None, None]
    assert apart(after, 2 * (before - layer.bias[:, None, None])) < 1e-6


def test_without_tiles_less_memory_is_needed_and_none_are_made(always):
    layer, x = conv(32, 32), maps(1, 32, 4, 4)
    for tiles in (True, False):
        kernels = Kernels(layer, tiles=tiles)
        with torch.no_grad(), kernels.during_run():
            layer(x)
        assert kernels._layers[0][1].weights[1].is_made == tiles
        assert kernels.packed_bytes <= 4 * kernels.most_numbers
        kernels.release()
    assert Kernels(layer).most_numbers > Kernels(layer, tiles=False).most_numbers

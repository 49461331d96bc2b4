"""Layers in 8-bit integers: close to float32, row by row, and away again without a trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldm.errors import UserError
from ldm.modules import int8
from ldm.modules.int8 import convertible, in_integers, quantized_activation, quantized_weight

native = pytest.mark.skipif(not int8.is_native(), reason="no VNNI here")


class Net(nn.Module):
    """Layers of each kind, with a UNet's names."""

    def __init__(self):
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(32, 32))
        self.middle_block = nn.ModuleDict(
            {
                "linear": nn.Linear(32, 48),
                "bare": nn.Linear(32, 48, bias=False),
                "conv": nn.Conv2d(32, 48, 3, padding=1),
                "down": nn.Conv2d(32, 48, 3, stride=2, padding=1),
                "point": nn.Conv2d(32, 48, 1, bias=False),
            }
        )
        self.left = nn.ModuleDict(
            {
                "grouped": nn.Conv2d(32, 32, 3, groups=2),
                "mirrored": nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
                "narrow": nn.Conv2d(4, 32, 3),
                "research": type("Own", (nn.Linear,), {})(32, 32),
            }
        )
        self.out = nn.Sequential(nn.Conv2d(32, 4, 3))


LAYERS = ("linear", "bare", "conv", "down", "point")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def given(name, rows=3):
    shape = (rows, 7, 32) if name in ("linear", "bare") else (rows, 32, 8, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_weights_fill_the_range_of_each_channel_and_come_back_within_half_a_unit():
    weight = (
        torch.randn(5, 3, 3, 3) * torch.tensor([1e-3, 1.0, 50.0, 2.0, 0.0])[:, None, None, None]
    )
    whole, scales = quantized_weight(weight)
    assert whole.dtype == torch.int8 and whole.flatten(1).abs().amax(1).tolist() == [127] * 4 + [0]
    error = (whole * scales[:, None, None, None] - weight).flatten(1).abs().amax(1)
    assert (error <= 0.5001 * scales).all()


def test_activations_are_rounded_to_the_nearest_around_their_zero():
    x = torch.randn(4, 100)
    q, scales = quantized_activation(x, (1,))
    assert q.dtype == torch.uint8 and scales.shape == (4, 1)
    assert ((q.float() - 128) * scales - x).abs().le(0.501 * scales).all()
    assert q.amin() >= 1
    assert (quantized_activation(torch.zeros(2, 3), (1,))[0] == 128).all()


def test_first_and_last_layers_the_time_and_what_somebody_changed_stay_as_they_are(net):
    assert {name for name, _ in convertible(net)} == {f"middle_block.{name}" for name in LAYERS}


@native
@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_a_layer_is_within_two_percent_of_float32_and_is_itself_again_afterwards(net, name):
    layer, x = net.middle_block[name], given(name)
    wanted, keys = layer(x), list(net.state_dict())
    with in_integers(net) as count:
        found = layer(x)
        assert list(net.state_dict()) == keys
    assert count == len(LAYERS)
    assert found.shape == wanted.shape
    assert 0 < (found - wanted).square().mean().sqrt() < 0.02 * wanted.std()
    assert torch.equal(layer(x), wanted) and "forward" not in vars(layer)


@native
@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_a_row_is_what_it_is_whatever_is_computed_beside_it(net, name):
    layer, x = net.middle_block[name], given(name)
    with in_integers(net):
        alone = layer(x[:1])
        beside = torch.cat([x[:1], 100 * x[1:]])
        assert torch.equal(layer(beside)[:1], alone)


@native
@torch.no_grad()
def test_a_weight_that_changes_meanwhile_counts(net):
    layer, x = net.middle_block["linear"], given("linear")
    with in_integers(net):
        before = layer(x)
        layer.weight.mul_(2)
        changed = layer(x)
        assert torch.allclose(changed - layer.bias, 2 * (before - layer.bias), rtol=1e-5, atol=1e-5)
        layer.weight = nn.Parameter(torch.zeros_like(layer.weight))
        assert torch.equal(layer(x), layer.bias.expand_as(before))


@native
def test_gradients_take_the_plain_way(net):
    layer, x = net.middle_block["linear"], given("linear").requires_grad_()
    with in_integers(net):
        layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is not None


def test_a_processor_without_instructions_for_it_is_told(net, monkeypatch):
    monkeypatch.setattr(int8, "is_native", lambda: False)
    with pytest.raises(UserError, match="VNNI"), in_integers(net):
        pass
    assert "forward" not in vars(net.middle_block["linear"])

"""Norms of a part of the groups at a time: the same bits, and never where somebody would notice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.memory_tracker import MemoryTracker
from benchmarks.pretended_device import pretended_device
from ldm.modules.diffusionmodules import lean_maps, model

HALVES = (torch.float16, torch.bfloat16)


def decoder() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"ch": 32, "out_ch": 3, "ch_mult": (1, 2), "num_res_blocks": 1, "z_channels": 4}
    made = model.Decoder(**sizes, attn_resolutions=[], in_channels=3, resolution=16)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made.eval().requires_grad_(False)


def by_groups(monkeypatch, norm: nn.Module, *, autocast: bool = True, grad: bool = False) -> bool:
    """Return whether a norm of a large half-precision map is computed by groups."""
    monkeypatch.setattr(model, "LARGE", 1)
    seen = []
    own = lean_maps.activated_by_groups
    monkeypatch.setattr(model, "activated_by_groups", lambda *a: seen.append(a) or own(*a))
    dtype = torch.float16
    with pretended_device() as device, torch.set_grad_enabled(grad):
        norm, x = norm(), torch.zeros(1, 32, 4, 4, dtype=dtype, device=device)
        with torch.autocast("cuda", dtype, enabled=autocast):
            model.activated(norm.to(device, None if autocast else dtype), x)
    return bool(seen)


def plain() -> nn.Module:
    return nn.GroupNorm(32, 32)


def heard() -> nn.Module:
    norm = plain()
    norm.register_forward_hook(lambda *_: None)
    return norm


def replaced() -> nn.Module:
    norm = plain()
    norm.forward = lambda x: x
    return norm


class Own(nn.GroupNorm):
    """A subclass."""


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("rows", [1, 3])
def test_a_decoder_gives_the_same_bits_by_groups(monkeypatch, dtype, rows):
    z = torch.randn(rows, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    half = decoder()
    with torch.no_grad(), torch.autocast("cpu", dtype):
        whole = half(z)
        monkeypatch.setattr(model, "takes_much", lambda norm, x: True)  # noqa: ARG005
        assert torch.equal(half(z), whole)


def test_groups_that_the_parts_do_not_divide_are_all_normalised():
    norm, x = nn.GroupNorm(33, 66), torch.randn(2, 66, 4, 4)
    assert torch.equal(lean_maps.activated_by_groups(norm, x), nn.functional.silu(norm(x)))


def test_a_plain_norm_of_a_large_map_under_autocast_goes_by_groups(monkeypatch):
    assert by_groups(monkeypatch, plain)


def test_a_norm_goes_whole_where_gradients_flow(monkeypatch):
    assert not by_groups(monkeypatch, plain, grad=True)


def test_a_norm_goes_whole_without_autocast(monkeypatch):
    assert not by_groups(monkeypatch, plain, autocast=False)


@pytest.mark.parametrize("norm", [heard, replaced, lambda: Own(32, 32)])
def test_what_listens_to_a_norm_or_replaces_it_sees_the_whole_map(monkeypatch, norm):
    assert not by_groups(monkeypatch, norm)


def test_a_large_map_on_a_device_takes_less_than_three_maps_of_half_precision():
    nbytes = 2 * 64 * 512 * 512
    with pretended_device() as device, torch.no_grad(), MemoryTracker() as tracker:
        norm, x = nn.GroupNorm(32, 64).to(device), torch.zeros(1, 64, 512, 512, device=device)
        x = x.half()
        with tracker.phase("norm"), torch.autocast("cuda", torch.float16):
            model.activated(norm, x)
    assert tracker.phases["norm"].peak["cuda"] < 3 * nbytes

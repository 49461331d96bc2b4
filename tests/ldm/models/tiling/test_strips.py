"""Statistics that are merged strip by strip are those of the whole map."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ldm.models.tiling import strips
from ldm.models.tiling.strips import FeatureMap, Strips


def observed(values: torch.Tensor, heights: list[int]) -> FeatureMap:
    whole = FeatureMap(values)
    for strip in values.split(heights, dim=2):
        whole.observe(strip)
    return whole


@pytest.mark.parametrize("heights", [[12], [5, 7], [1] * 12])
def test_a_strip_is_normalised_by_the_statistics_of_the_whole_map(heights):
    norm = nn.GroupNorm(4, 16, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    # Tone falls from row to row, so that every strip has a mean of its own.
    values = torch.randn(1, 16, 12, 9) + torch.linspace(-20, 20, 12)[:, None]
    normalise = observed(values, heights).normaliser(norm)
    torch.testing.assert_close(normalise(values[:, :, 3:6]), norm(values)[:, :, 3:6])


def test_a_small_deviation_beside_a_large_mean_is_not_cancelled_away():
    values = 4096 + torch.randn(1, 8, 16, 16)
    squares = observed(values, [3] * 5 + [1]).squares
    exact = values.double().var(dim=(0, 2, 3), correction=0) * 256
    torch.testing.assert_close(squares.double(), exact, rtol=1e-3, atol=0)
    naive = values.square().sum(dim=(0, 2, 3)) - values.sum(dim=(0, 2, 3)).square() / 256
    assert (naive.double() / exact - 1).abs().max() > 0.1


def test_statistics_of_halves_are_single_precision():
    values = torch.randn(1, 4, 8, 8).to(torch.bfloat16)
    whole = observed(values, [4, 4])
    assert whole.mean.dtype == whole.squares.dtype == torch.float32
    torch.testing.assert_close(whole.mean, values.float().mean(dim=(0, 2, 3)))


def test_a_layer_that_halves_its_rows_drops_an_odd_last_one():
    source = FeatureMap(torch.randn(1, 2, 7, 4))
    pool = nn.AvgPool2d(2)
    out = Strips(torch.device("cpu"), rows=2).run(pool, source, channels=2, unit=(2, 1))
    torch.testing.assert_close(out.values, pool(source.values))


def test_a_layer_with_a_bound_of_its_own_gets_no_more_rows_than_that():
    heights = []

    def layer(strip: torch.Tensor) -> torch.Tensor:
        heights.append(strip.shape[2])
        return strip

    source = FeatureMap(torch.randn(1, 2, 9, 4))
    out = Strips(torch.device("cpu")).run(layer, source, channels=2, most=2)
    assert heights == [3, 4, 4, 4, 2] and torch.equal(out.values, source.values)


@pytest.mark.parametrize("locks", [True, False])
def test_a_map_waits_in_page_locked_memory_where_the_system_gives_it(monkeypatch, caplog, locks):
    asked, plain = [], torch.empty

    def empty(*args, pin_memory=False, **options):
        asked.append(pin_memory)
        if pin_memory and not locks:
            raise RuntimeError("out of memory")
        return plain(*args, **options)

    monkeypatch.setattr(strips, "STRIP", 8)
    accelerator = "cuda:0"
    with FakeTensorMode():
        source = FeatureMap(torch.randn(1, 2, 8, 4, device=accelerator))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch, "empty", empty)
        out = Strips(torch.device(accelerator)).run(lambda strip: strip, source, channels=2)
    assert out.values.device.type == "cpu"
    assert asked == ([True] if locks else [True, False])
    assert ("no page-locked memory" in caplog.text) is not locks

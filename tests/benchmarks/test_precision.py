"""How far formats are apart, and that each is measured in its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import precision
from benchmarks.precision import formats, in_format, lowered, psnr


def test_psnr_is_ten_for_each_tenfold_of_the_error_s_power():
    a = np.zeros((4, 4), dtype=np.uint8)
    assert psnr(a, a) == math.inf
    assert psnr(a + np.uint8(255), a) == pytest.approx(0.0)
    assert psnr(a + np.uint8(51), a) == pytest.approx(20 * math.log10(5))
    assert psnr(np.full(9, 0.1), np.zeros(9), peak=1.0) == pytest.approx(20.0)


@pytest.mark.parametrize("name", formats())
@torch.no_grad()
def test_a_format_is_near_float32_and_no_other(name):
    torch.manual_seed(0)
    unet = nn.ModuleDict({"middle": nn.Linear(64, 64)})
    x = torch.randn(8, 64)
    wanted = unet["middle"](x)
    with lowered(unet, name):
        found = unet["middle"](x).float()
    apart = (found - wanted).abs().max()
    assert bool(apart == 0) is (name == "full") and apart < 0.1
    with in_format(unet, name) as dtype:
        assert dtype == (torch.float32 if name in ("full", "int8") else getattr(torch, name))
    assert torch.equal(unet["middle"](x), wanted)


def test_layers_are_timed_in_every_format(monkeypatch):
    monkeypatch.setattr(precision, "LINEAR", ((8, 16, 16),))
    monkeypatch.setattr(precision, "CONV", ((16, 16, 4),))
    head, _, *rows = precision.time_layers(["full", "bfloat16"], 1)
    assert head == "| layer | full, ms | bfloat16, ms |"
    assert [row.count("|") for row in rows] == [4, 4]

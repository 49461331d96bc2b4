"""Recomputation by the reference's name: the same values and gradients, computed twice."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from ldm.modules.diffusionmodules import util
from ldm.modules.diffusionmodules.util import (
    CheckpointFunction,
    betas_for_alpha_bar,
    checkpoint,
    scale_module,
)
from ldm.process.schedules import make_beta_schedule


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.calls = nn.Linear(3, 3), 0
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x, scale=None, twice=False):
        self.calls += 1
        out = self.linear(x).tanh() * self.frozen
        out = out if scale is None else out * scale
        return (out, out * 2) if twice else out


def gradients(part, x, run):
    part.zero_grad()
    x.grad = None
    out = run(x)
    sum(o.square().sum() for o in (out if isinstance(out, tuple) else (out,))).backward()
    return [x.grad.clone(), part.linear.weight.grad.clone(), part.linear.bias.grad.clone()]


@pytest.mark.parametrize("others", [(), (None,), (2.5,), (None, True), (torch.tensor(3.0),)])
def test_values_and_gradients_are_those_of_the_plain_call(others):
    torch.manual_seed(0)
    part, x = Part(), torch.randn(4, 3, requires_grad=True)
    expected = gradients(part, x, lambda x: part(x, *others))
    part.calls = 0
    found = gradients(
        part,
        x,
        lambda x: CheckpointFunction.apply(part, 1 + len(others), x, *others, *part.parameters()),
    )
    assert part.calls == 2
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert part.frozen.grad is None


@pytest.mark.parametrize("flag", [True, False])
def test_checkpoint_takes_the_references_four_arguments(flag):
    part, x = Part(), torch.randn(4, 3, requires_grad=True)
    expected = gradients(part, x, part)
    part.calls = 0
    found = gradients(part, x, lambda x: checkpoint(part, (x,), part.parameters(), flag))
    assert part.calls == 1 + flag
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_scaling_a_module_scales_its_parameters_in_place():
    layer = nn.Linear(3, 2)
    before = [p.detach().clone() for p in layer.parameters()]
    assert scale_module(layer, 0.25) is layer
    for old, new in zip(before, layer.parameters(), strict=True):
        assert torch.equal(new, old * 0.25) and new.requires_grad


def test_betas_follow_a_curve_and_stay_below_their_limit():
    def curve(t):
        return math.cos((t + 8e-3) / (1 + 8e-3) * math.pi / 2) ** 2

    betas = betas_for_alpha_bar(100, curve)
    products = np.cumprod(1 - betas[:-1])
    assert products == pytest.approx([curve(n / 100) / curve(0) for n in range(1, 100)])
    assert betas == pytest.approx(make_beta_schedule("cosine", 100))
    assert betas_for_alpha_bar(100, curve, max_beta=0.1).max() == 0.1


def test_silu_and_mean_flat_are_offered():
    x = torch.randn(2, 3, 4)
    assert torch.allclose(util.SiLU()(x), x * x.sigmoid(), atol=1e-6)
    assert torch.allclose(util.mean_flat(x), x.mean(dim=(1, 2)))

"""Triton's kernels compute what the plain layers do; its interpreter runs them on a CPU."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton", reason="Triton comes with torch's builds for CUDA")
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3}  # of results of about 1


def is_triton(name: str) -> bool:
    """Tell Triton's modules in Python, and ours in its language, from its compiled ones."""
    return name.startswith("ldm.kernels.cuda") or (
        name.partition(".")[0] == "triton" and not name.startswith("triton._C")
    )


@pytest.fixture(scope="module")
def kernels():
    """Return the modules, defined for the interpreter: Triton reads its switch when imported."""
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if is_triton(name)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        names = ("ldm.kernels.cuda.group_norm", "ldm.kernels.cuda.geglu")
        yield tuple(importlib.import_module(name) for name in names)
    for name in [name for name in sys.modules if is_triton(name)]:
        del sys.modules[name]
    sys.modules.update(before)


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((2, 20, 5, 7), 2), ((1, 64, 8, 8), 32), ((3, 6, 1, 1), 6), ((1, 66, 9, 13), 1)],
)
def test_group_norm_with_silu_is_the_plain_layers(kernels, shape, groups, silu, dtype):
    x, weight, bias = (normal(*s, seed=i) for i, s in enumerate([shape, shape[1:2], shape[1:2]]))
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    out = kernels[0].group_norm(x, groups, weight, bias, 1e-5, silu=silu)
    wanted = F.group_norm(x.double(), groups, weight.double(), bias.double(), 1e-5)
    wanted = F.silu(wanted) if silu else wanted
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert (out - wanted).abs().max() <= TOLERANCE[dtype] * max(1, wanted.abs().max())


def test_a_mean_far_from_zero_costs_group_norm_no_digits(kernels):
    x = normal(1, 8, 12, 11) + 4096.0  # float32 has 2^-11 there: E[x^2] - E[x]^2 would have 2
    weight, bias = torch.ones(8), torch.zeros(8)
    out = kernels[0].group_norm(x, 4, weight, bias, 1e-5, silu=False)
    wanted = F.group_norm(x.double(), 4, weight.double(), bias.double(), 1e-5)
    assert (out - wanted).abs().max() < 2e-3


def test_more_slices_than_are_merged_at_a_time_are_all_counted(kernels, monkeypatch):
    monkeypatch.setattr(kernels[0], "ROWS", 4)
    monkeypatch.setattr(kernels[0], "SLICES", 2)
    x, weight, bias = normal(1, 6, 5, 5), normal(6, seed=1), normal(6, seed=2)
    out = kernels[0].group_norm(x, 3, weight, bias, 1e-6, silu=True)
    wanted = F.silu(F.group_norm(x, 3, weight, bias, 1e-6))
    assert (out - wanted).abs().max() < 2e-6


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(2, 5, 24), (1, 7, 2 * 300), (3, 2)])
def test_the_gate_is_the_plain_one(kernels, shape, dtype):
    x = normal(*shape, dtype=dtype)
    value, gate = x.float().chunk(2, dim=-1)
    wanted = value * F.gelu(gate)
    out = kernels[1].gated(x)
    assert out.dtype == dtype
    assert (out.float() - wanted).abs().max() <= TOLERANCE[dtype] * max(1, wanted.abs().max())

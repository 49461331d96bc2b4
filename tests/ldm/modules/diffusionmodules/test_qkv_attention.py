"""The reference's attention of stacked queries, keys and values, and the counter of operations."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ldm.modules.diffusionmodules.openaimodel import (
    QKVAttention,
    QKVAttentionLegacy,
    TransposedUpsample,
    count_flops_attn,
)


@pytest.mark.parametrize("order", ["legacy", "new"])
def test_each_head_attends_for_itself(order):
    qkv = torch.randn(2, 3 * 8, 5)
    heads, width = 2, 4
    if order == "new":
        layer, parts = QKVAttention(heads), qkv.reshape(2, 3, heads, width, 5).unbind(1)
    else:
        layer, parts = QKVAttentionLegacy(heads), qkv.reshape(2, heads, 3, width, 5).unbind(2)
    q, k, v = parts
    weights = (q.mT @ k / width**0.5).softmax(-1)  # (B, heads, N, N)
    assert torch.allclose(layer(qkv), (v @ weights.mT).reshape(2, 8, 5), atol=1e-6)
    assert not list(layer.parameters())


@pytest.mark.parametrize("shape", [(2, 8, 5), (2, 8, 3, 4)])
def test_operations_grow_with_the_square_of_the_positions(shape):
    model = SimpleNamespace(total_ops=torch.zeros(1, dtype=torch.float64))
    positions = torch.Size(shape[2:]).numel()
    for times in (1, 2):
        count_flops_attn(model, None, (torch.zeros(shape),))
        assert model.total_ops.item() == times * 2 * 2 * positions**2 * 8
    QKVAttention.count_flops(model, None, (torch.zeros(shape),))
    assert model.total_ops.item() == 3 * 2 * 2 * positions**2 * 8


@pytest.mark.parametrize(("kernel", "side"), [(5, 9), (2, 6)])
def test_a_transposed_kernel_doubles_the_sides_without_padding(kernel, side):
    layer = TransposedUpsample(4, 6, kernel)
    assert layer(torch.zeros(1, 4, 3, 3)).shape == (1, 6, side, side)
    assert TransposedUpsample(4).up.weight.shape == (4, 4, 5, 5)

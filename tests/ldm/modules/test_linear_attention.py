"""Linear attention against its formula, position by position."""

from __future__ import annotations

import pytest
import torch

from ldm.modules.attention import LinearAttention
from ldm.modules.diffusionmodules.model import LinAttnBlock, make_attn


@pytest.mark.parametrize(("heads", "width"), [(1, 6), (2, 5), (4, 3)])
@torch.no_grad()
def test_a_position_reads_the_shared_table(heads, width):
    torch.manual_seed(0)
    layer, x = LinearAttention(8, heads, width), torch.randn(2, 8, 3, 4)
    q, k, v = layer.to_qkv(x).flatten(2).reshape(2, 3, heads, width, 12).unbind(1)
    shares = k.exp() / k.exp().sum(-1, keepdim=True)
    out = torch.zeros(2, heads, width, 12)
    for place in range(12):
        for n in range(12):
            out[..., place] += (q[..., place] * shares[..., n]).sum(-1, keepdim=True) * v[..., n]
    expected = layer.to_out(out.reshape(2, heads * width, 3, 4))
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_the_autoencoders_form_has_one_head_as_wide_as_the_map():
    layer = make_attn(32, "linear")
    assert isinstance(layer, LinAttnBlock)
    assert layer.heads == 1 and layer.to_qkv.weight.shape == (96, 32, 1, 1)

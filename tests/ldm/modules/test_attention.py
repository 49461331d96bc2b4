"""Attention layers and their interchangeable arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ldm.modules import attention_processors
from ldm.modules.attention import (
    BasicTransformerBlock,
    CrossAttention,
    SpatialTransformer,
    set_attention_processor,
)


def random_qkv(seed: int = 0, batch: int = 3):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, 2, 5, 8, generator=generator)
    k, v = torch.randn(2, batch, 2, 7, 8, generator=generator)
    return q, k, v


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_all_processors_agree(masked, rows):
    q, k, v = random_qkv()
    mask = None
    if masked:
        mask = torch.rand(3, 1, 1, 7, generator=torch.Generator().manual_seed(1)) > 0.4
        mask[..., 0] = True
    expected = attention_processors.eager(q, k, v, mask=mask, scale=0.3)
    for processor in (attention_processors.sdpa, attention_processors.Sliced(rows)):
        assert torch.allclose(processor(q, k, v, mask=mask, scale=0.3), expected, atol=1e-6)


class KernelsUsed(TorchDispatchMode):
    """Collects the names of the kernels that run inside the ``with`` block."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__)
        return func(*args, **(kwargs or {}))


def test_channels_that_lie_apart_do_not_fall_back_to_a_table_of_all_pairs():
    q, k, v = random_qkv()
    apart = [a.mT.contiguous().mT for a in (q, k, v)]
    assert all(a.stride(-1) != 1 for a in apart)
    with KernelsUsed() as kernels:
        out = attention_processors.sdpa(*apart, mask=None, scale=0.3)
    assert not any("softmax" in name for name in kernels.names)
    assert torch.allclose(out, attention_processors.eager(q, k, v, mask=None, scale=0.3), atol=1e-6)


def test_scores_beyond_half_precision_s_range_do_not_overflow():
    q, k, v = random_qkv()
    q, k = q * 300, k * 300
    assert (q @ k.mT).max() > torch.finfo(torch.float16).max
    expected = attention_processors.eager(q, k, v, mask=None, scale=0.3)
    half = attention_processors.sdpa(q.half(), k.half(), v.half(), mask=None, scale=0.3)
    # Scores so far apart choose one key; what is left is the rounding of its value.
    assert torch.allclose(half.float(), expected, atol=2e-3)


def test_training_on_a_cpu_gives_the_fused_kernel_s_result_and_gradient():
    q, k, v = random_qkv()
    fused = attention_processors.sdpa(q, k, v, mask=None, scale=0.3)
    q = q.requires_grad_()
    trained = attention_processors.sdpa(q, k, v, mask=None, scale=0.3)
    assert torch.allclose(trained, fused, atol=1e-6)
    trained.sum().backward()
    gradient = q.grad.clone()
    q.grad = None
    torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=0.3).sum().backward()
    assert torch.allclose(gradient, q.grad, atol=1e-6)


def test_a_masked_token_has_no_influence():
    layer = CrossAttention(8, context_dim=6, heads=2, dim_head=4)
    x, context = torch.randn(1, 3, 8), torch.randn(1, 4, 6)
    mask = torch.tensor([[True, True, False, True]])
    changed = context.clone()
    changed[:, 2] += 10
    assert torch.allclose(layer(x, context, mask), layer(x, changed, mask))
    assert not torch.allclose(layer(x, context), layer(x, changed))


def test_exchanging_the_processor_changes_neither_keys_nor_results():
    torch.manual_seed(0)
    block = BasicTransformerBlock(16, 2, 8, context_dim=6).eval()
    x, context = torch.randn(2, 9, 16), torch.randn(2, 4, 6)
    keys, before = list(block.state_dict()), block(x, context)
    set_attention_processor(block, attention_processors.Sliced(1))
    assert isinstance(block.attn2.processor, attention_processors.Sliced)
    assert list(block.state_dict()) == keys
    assert torch.allclose(block(x, context), before, atol=1e-6)


@pytest.mark.parametrize("use_linear", [False, True])
def test_a_fresh_spatial_transformer_is_the_identity(use_linear):
    layer = SpatialTransformer(32, 2, 16, context_dim=6, use_linear=use_linear)
    x = torch.randn(2, 32, 3, 4)
    assert torch.equal(layer(x, torch.randn(2, 5, 6)), x)  # proj_out starts at zero


def test_linear_and_convolutional_token_projections_compute_the_same():
    torch.manual_seed(0)
    conv = SpatialTransformer(32, 2, 16, context_dim=6, use_linear=False)
    conv.proj_out.weight.data.normal_()
    linear = SpatialTransformer(32, 2, 16, context_dim=6, use_linear=True)
    weights = conv.state_dict()
    for name in ("proj_in.weight", "proj_out.weight"):
        weights[name] = weights[name][:, :, 0, 0]
    linear.load_state_dict(weights)
    x, context = torch.randn(2, 32, 3, 4), torch.randn(2, 5, 6)
    assert torch.allclose(conv(x, context), linear(x, context), atol=1e-5)


def test_checkpointing_recomputes_to_the_same_gradient():
    torch.manual_seed(0)
    block = BasicTransformerBlock(16, 2, 8, context_dim=6, checkpoint=True)
    x, context = torch.randn(2, 9, 16, requires_grad=True), torch.randn(2, 4, 6)
    gradients = []
    for flag in (True, False):
        block.checkpoint = flag
        x.grad = None
        block(x, context).sum().backward()
        gradients.append(x.grad.clone())
    assert torch.allclose(*gradients, atol=1e-6)

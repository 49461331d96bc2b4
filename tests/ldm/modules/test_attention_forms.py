"""The attention's forms of both versions, and what forks change of it while it runs."""

from __future__ import annotations

from types import MethodType

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from ldm.errors import UserError
from ldm.modules import attention
from ldm.modules.attention import BasicTransformerBlock, CrossAttention, SpatialTransformer
from ldm.modules.diffusionmodules.model import AttnBlock
from ldm.modules.diffusionmodules.openaimodel import UNetModel

UNET = {
    "image_size": 8,
    "in_channels": 4,
    "model_channels": 32,
    "out_channels": 4,
    "num_res_blocks": 1,
    "attention_resolutions": [1, 2],
    "channel_mult": [1, 2],
    "num_heads": 2,
    "use_spatial_transformer": True,
    "context_dim": 24,
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def filled(module: nn.Module) -> nn.Module:
    """Give the layers that begin at zero numbers, so that the result depends on all of them."""
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return module.eval()


def test_the_first_versions_parameters_may_be_given_by_place():
    layer = filled(SpatialTransformer(32, 2, 16, 2, 0.0, 24))
    assert len(layer.transformer_blocks) == 2
    assert layer(torch.randn(1, 32, 4, 4), torch.randn(1, 7, 24)).shape == (1, 32, 4, 4)


@pytest.mark.parametrize("make", [list, tuple, OmegaConf.create])
def test_a_list_has_a_context_for_each_block(make):
    layer = filled(SpatialTransformer(32, 2, 16, depth=2, context_dim=make([24, 8])))
    x, wide, narrow = torch.randn(1, 32, 4, 4), torch.randn(1, 7, 24), torch.randn(1, 3, 8)
    found = layer(x, [wide, narrow])
    assert not torch.allclose(found, layer(x, [wide, narrow + 1]), atol=1e-4)
    assert not torch.allclose(found, layer(x, [wide + 1, narrow]), atol=1e-4)


def test_a_list_of_one_is_for_all_blocks():
    layer = filled(SpatialTransformer(32, 2, 16, depth=2, context_dim=[24]))
    x, context = torch.randn(1, 32, 4, 4), torch.randn(1, 7, 24)
    assert torch.equal(layer(x, [context]), layer(x, context))
    with pytest.raises(UserError, match="context has 3 entries for 2 transformer blocks"):
        layer(x, [context] * 3)
    with pytest.raises(UserError, match="context_dim has 3 entries"):
        SpatialTransformer(32, 2, 16, depth=2, context_dim=[1, 2, 3])


def test_a_unet_takes_lists_too():
    unet = filled(UNetModel(**UNET | {"context_dim": [24, 8], "transformer_depth": 2}))
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([1, 9])
    assert unet(x, t, [torch.randn(2, 7, 24), torch.randn(2, 3, 8)]).shape == x.shape


@pytest.mark.parametrize("use_checkpoint", [False, True])
def test_the_unets_use_checkpoint_reaches_the_blocks_that_are_given_none(use_checkpoint):
    unet = UNetModel(**UNET, use_checkpoint=use_checkpoint)
    blocks = [m for m in unet.modules() if isinstance(m, BasicTransformerBlock)]
    assert len(blocks) == 7 and {block.checkpoint for block in blocks} == {use_checkpoint}


def test_the_unet_says_what_came_with_sd_2_only_where_it_is_set(monkeypatch):
    from ldm.modules.diffusionmodules import unet_layout

    given = []

    class Listening(SpatialTransformer):
        def __init__(self, *args, **kwargs):
            given.append(set(kwargs))
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(unet_layout, "SpatialTransformer", Listening)
    UNetModel(**UNET)
    assert set.union(*given) == {"depth", "context_dim"}
    UNetModel(**UNET, use_linear_in_transformer=True, disable_middle_self_attn=True)
    assert set.union(*given) == {"depth", "context_dim", "use_linear", "disable_self_attn"}


def forward_of_a_fork(self, x, context=None, mask=None):
    """Attend with the attributes that forks use, and keep the weights."""
    context = x if context is None else context
    q, k, v = self.to_q(x), self.to_k(context), self.to_v(context)
    q, k, v = (a.unflatten(2, (self.heads, -1)).transpose(1, 2) for a in (q, k, v))
    self.seen = (q @ k.mT * self.scale).softmax(-1)
    return self.to_out((self.seen @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("which", ["attn1", "attn2"])
def test_a_forward_patched_into_one_attention_is_obeyed(which, checkpoint):
    unet = filled(UNetModel(**UNET, use_checkpoint=checkpoint))
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([1, 9]), torch.randn(2, 7, 24)
    expected = unet(x, t, context)
    patched = [m for name, m in unet.named_modules() if name.endswith(which)]
    for layer in patched:
        layer.forward = MethodType(forward_of_a_fork, layer)
    assert torch.allclose(unet(x, t, context), expected, atol=1e-5)
    assert all(m.seen.shape[-1] == (7 if which == "attn2" else m.seen.shape[-2]) for m in patched)
    patched[0].forward = lambda x, context=None, mask=None: torch.zeros_like(x)
    assert not torch.allclose(unet(x, t, context), expected, atol=1e-5)


def test_a_forward_patched_into_the_class_is_obeyed(monkeypatch):
    unet = filled(UNetModel(**UNET))
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([1, 9]), torch.randn(2, 7, 24)
    expected = unet(x, t, context)
    monkeypatch.setattr(CrossAttention, "forward", forward_of_a_fork)
    assert torch.allclose(unet(x, t, context), expected, atol=1e-5)
    assert all(hasattr(m, "seen") for m in unet.modules() if isinstance(m, CrossAttention))


def test_a_block_without_a_context_recomputes():
    block = BasicTransformerBlock(16, 2, 8, checkpoint=True)
    x = torch.randn(1, 5, 16, requires_grad=True)
    block(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_attention_over_pixels_has_the_autoencoders_form_and_sd_2s_name_the_first_versions():
    assert attention.SpatialSelfAttention is AttnBlock
    assert attention.MemoryEfficientCrossAttention is CrossAttention
    assert attention.Normalize(64).eps == 1e-6 and attention.Normalize(64).num_groups == 32


def test_small_helpers_keep_their_promises():
    assert list(attention.uniq([3, 1, 3, 2, 1])) == [3, 1, 2]
    assert attention.max_neg_value(torch.zeros(1, dtype=torch.float16)) == -65504
    tensor = torch.zeros(300, 16)
    assert attention.init_(tensor) is tensor
    assert 0.24 < tensor.abs().max() <= 0.25 and abs(tensor.mean()) < 0.01

"""Attention layers and their interchangeable arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ldm.errors import UserError
from ldm.modules import attention_processors
from ldm.modules.attention import (
    GEGLU,
    BasicTransformerBlock,
    CrossAttention,
    SpatialTransformer,
    set_attention_processor,
)
from ldm.modules.diffusionmodules.encoder_unet import AttentionPool2d, EncoderUNetModel
from ldm.modules.diffusionmodules.model import AttnBlock, Decoder, Encoder
from ldm.modules.diffusionmodules.openaimodel import AttentionBlock, UNetModel
from ldm.modules.encoders.clip_text import CLIPTextConfig, CLIPTextModel
from ldm.modules.x_transformer import Encoder as TokenEncoder
from ldm.modules.x_transformer import TransformerWrapper


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


class Recorder:
    """An attention processor that notes what it is asked and answers with the queries."""

    def __init__(self):
        self.asked = []

    def __call__(self, q, k, v, *, mask, scale):
        self.asked.append((q.shape, scale))
        return q


@pytest.mark.parametrize("mask", [None, torch.tensor([[True, False, True, True]])])
def test_attention_is_a_softmax_of_products_over_the_root_of_the_head_width(mask):
    torch.manual_seed(0)
    heads, d = 2, 8
    layer = CrossAttention(12, context_dim=6, heads=heads, dim_head=d)
    # Weights far from zero: a softmax of small scores is flat whatever they are multiplied by.
    for project in (layer.to_q, layer.to_k):
        torch.nn.init.normal_(project.weight)
    x, context = torch.randn(1, 3, 12), torch.randn(1, 4, 6)
    rows = []
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        q, k, v = (
            tokens[0] @ project.weight[part].T
            for project, tokens in ((layer.to_q, x), (layer.to_k, context), (layer.to_v, context))
        )
        scores = q @ k.T / math.sqrt(d)
        if mask is not None:
            scores[:, ~mask[0]] = -torch.inf
        rows.append(scores.exp() / scores.exp().sum(dim=1, keepdim=True) @ v)
    expected = layer.to_out(torch.cat(rows, dim=1))
    assert torch.allclose(layer(x, context, mask)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "given", "width"),
    [
        (CrossAttention(32, heads=2, dim_head=24), (1, 5, 32), 24),
        (AttentionBlock(64, num_heads=4), (1, 64, 3, 3), 16),
        (AttentionBlock(64, num_head_channels=32), (1, 64, 3, 3), 32),
        (AttnBlock(32), (1, 32, 3, 3), 32),
        (AttentionPool2d(3, 64, 32), (1, 64, 3, 3), 32),
        (TokenEncoder(32, 1, 2, attn_dim_head=24), (1, 5, 32), 24),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_attention_layer_scales_by_the_width_of_a_head(layer, given, width):
    recorder = Recorder()
    set_attention_processor(layer, recorder)
    layer(torch.randn(given))
    ((shape, scale),) = recorder.asked
    assert shape[-1] == width
    assert scale == pytest.approx(1 / math.sqrt(width))


@pytest.mark.parametrize("processor", [attention_processors.sdpa, attention_processors.Sliced(1)])
def test_a_processor_multiplies_scores_by_the_scale_it_is_given(processor):
    q, k, v = random_qkv()
    for scale in (0.3, 2.0):
        expected = (q @ k.mT * scale).softmax(dim=-1) @ v
        assert torch.allclose(processor(q, k, v, mask=None, scale=scale), expected, atol=1e-5)


UNET = {
    "image_size": 8,
    "in_channels": 4,
    "model_channels": 32,
    "out_channels": 4,
    "num_res_blocks": 1,
    "attention_resolutions": [1, 2],
    "channel_mult": [1, 2],
    "num_head_channels": 16,
}
AUTOENCODER = {
    "ch": 32,
    "out_ch": 3,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [16],
    "in_channels": 3,
    "resolution": 16,
    "z_channels": 4,
}
LATENTS, STEPS, TOKENS = torch.zeros(1, 4, 8, 8), torch.zeros(1), torch.zeros(1, 7).long()
CONTEXT = torch.zeros(1, 7, 16)


TRANSFORMER = {"use_spatial_transformer": True, "context_dim": 16}


def bert() -> TransformerWrapper:
    return TransformerWrapper(
        num_tokens=9, max_seq_len=8, attn_layers=TokenEncoder(32, 3, 2, attn_dim_head=16)
    )


# What builds a model, what it is called with, and how many attentions that runs. A UNet of two
# levels has attention at 1 + 1 places going down, 1 in the middle and 2 + 2 going up: seven sites,
# with two attentions each where there is a context.
MODELS = {
    "unet with context": (
        lambda: UNetModel(**UNET, **TRANSFORMER),
        (LATENTS, STEPS, CONTEXT),
        14,
    ),
    "unet without context": (lambda: UNetModel(**UNET), (LATENTS, STEPS), 7),
    "classifier": (lambda: EncoderUNetModel(**UNET, pool="attention"), (LATENTS, STEPS), 4),
    "encoder": (lambda: Encoder(**AUTOENCODER), (torch.zeros(1, 3, 16, 16),), 2),
    "decoder": (lambda: Decoder(**AUTOENCODER), (LATENTS,), 3),
    "bert": (bert, (TOKENS,), 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_an_exchanged_processor_computes_all_attention_there_is(name):
    make, inputs, attentions = MODELS[name]
    model = make()
    recorder, keys = Recorder(), list(model.state_dict())
    assert set_attention_processor(model, recorder) == attentions
    with KernelsUsed() as kernels:
        model(*inputs)
    assert len(recorder.asked) == attentions
    assert not {name for name in kernels.names if "softmax" in name or "dot_product" in name}
    assert list(model.state_dict()) == keys


def test_clips_causal_attention_and_linear_attention_keep_their_own_arithmetic():
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    text = CLIPTextModel(CLIPTextConfig(**sizes, num_attention_heads=2))
    assert set_attention_processor(text, Recorder()) == 0
    with KernelsUsed() as kernels:
        text(TOKENS)
    assert any("dot_product" in name for name in kernels.names)
    linear = Decoder(**AUTOENCODER, attn_type="linear")
    assert set_attention_processor(linear, Recorder()) == 0


def test_geglu_multiplies_the_first_half_by_the_gelu_of_the_second():
    torch.manual_seed(0)
    layer, x = GEGLU(3, 2), torch.randn(2, 4, 3)
    value, gate = layer.proj(x)[..., :2], layer.proj(x)[..., 2:]
    expected = value * gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2)))
    torch.testing.assert_close(layer(x), expected)


def test_a_spatial_transformer_normalises_faint_maps_with_the_references_eps():
    faint = 1e-3 * torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(0))
    # Of variance 1e-6, the reference's eps, half is left; at 1e-5 it would be a tenth.
    spread = SpatialTransformer(32, 2, 16).norm(faint).var().item()
    assert spread == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("processor", [None, torch.nn.Linear(2, 2)])
def test_what_cannot_be_a_processor_is_refused_and_changes_nothing(processor):
    layer = CrossAttention(8, heads=2, dim_head=4)
    before = layer.processor
    with pytest.raises(UserError, match="processor of attention layers"):
        set_attention_processor(layer, processor)
    assert layer.processor is before and "processor" not in " ".join(layer.state_dict())


def test_a_layer_that_was_made_without_its_constructor_attends_as_usual():
    """As whole modules are that were pickled by earlier versions."""
    layer = CrossAttention(8, heads=2, dim_head=4)
    x = torch.randn(1, 3, 8)
    wanted = layer(x)
    bare = CrossAttention.__new__(CrossAttention)
    bare.__dict__.update({k: v for k, v in vars(layer).items() if k != "processor"})
    assert torch.equal(bare(x), wanted)

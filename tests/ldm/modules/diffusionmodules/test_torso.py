"""Blocks in half precision between layers in single precision, and arguments that forks give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldm.modules.diffusionmodules.openaimodel import (
    EncoderUNetModel,
    ResBlock,
    TimestepBlock,
    UNetModel,
    convert_module_to_f16,
    convert_module_to_f32,
)

SIZES = {
    "image_size": 8,
    "in_channels": 4,
    "model_channels": 32,
    "out_channels": 4,
    "num_res_blocks": 1,
    "attention_resolutions": [1],
    "channel_mult": [1, 2],
    "num_heads": 2,
}
CONTEXT = {"use_spatial_transformer": True, "context_dim": 24}


def filled(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return module.eval()


@pytest.fixture(params=["plain", "context", "labels", "ids", "encoder", "spatial encoder"])
def case(request):
    """Return a network and its inputs."""
    torch.manual_seed(0)
    given = {"x": torch.randn(2, 4, 8, 8), "timesteps": torch.tensor([1, 500])}
    if "encoder" in request.param:
        pool = "spatial" if "spatial" in request.param else "adaptive"
        return filled(EncoderUNetModel(**SIZES, pool=pool)), given
    options = {}
    if request.param == "context":
        options, given["context"] = CONTEXT, torch.randn(2, 7, 24)
    if request.param == "labels":
        options, given["y"] = {"num_classes": "continuous"}, torch.randn(2, 1)
    if request.param == "ids":
        options = {"n_embed": 5}
    return filled(UNetModel(**SIZES, **options)), given


def dtypes(network, *names):
    return {p.dtype for name in names for p in getattr(network, name).parameters()}


@torch.no_grad()
def test_the_blocks_alone_are_converted_and_the_prediction_stays_close(case):
    network, given = case
    expected = network(**given)
    network.convert_to_fp16()
    blocks = [name for name in network.torso if hasattr(network, name)]
    assert dtypes(network, *blocks) == {torch.float16} and network.dtype == torch.float16
    assert dtypes(network, "time_embed", "out") == {torch.float32}
    found = network(**given)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.02 * expected.abs().max().item())
    network.convert_to_fp32()
    assert dtypes(network, *blocks) == {torch.float32} and network.dtype == torch.float32
    assert torch.allclose(network(**given), expected, atol=0.02 * expected.abs().max().item())


def test_constructors_may_say_a_dtype_and_the_weights_decide():
    network = UNetModel(**SIZES)
    network.dtype = torch.float16
    assert network.dtype == torch.float32


def test_only_what_a_module_itself_holds_is_converted():
    outer = nn.Sequential(nn.Linear(2, 2))
    outer.own = nn.Parameter(torch.zeros(1))
    convert_module_to_f16(outer)
    assert outer.own.dtype == torch.float16 and outer[0].weight.dtype == torch.float32
    outer.apply(convert_module_to_f16)
    outer.apply(convert_module_to_f32)
    assert {p.dtype for p in outer.parameters()} == {torch.float32}


@torch.no_grad()
def test_arguments_of_other_unets_are_taken_and_the_steps_are_needed():
    network, x, t = filled(UNetModel(**SIZES)), torch.randn(1, 4, 8, 8), torch.tensor([3])
    assert torch.equal(network(x, t), network(x, t, None, None, encoder_weight=2.0, cond=x))
    with pytest.raises(ValueError, match="timesteps is None"):
        network(x)


def test_a_layer_that_takes_the_step_must_say_what_it_does():
    with pytest.raises(NotImplementedError, match="TimestepBlock must define forward"):
        TimestepBlock()(torch.zeros(1), torch.zeros(1))
    assert TimestepBlock.forward.__isabstractmethod__
    assert not getattr(ResBlock.forward, "__isabstractmethod__", False)

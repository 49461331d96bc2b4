"""A compiled UNet: one graph without breaks, at most one more for other sizes, none for prompts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ldm.errors import UserError
from ldm.kernels.compiled import check_compiler, compile_model
from ldm.modules.diffusionmodules.openaimodel import UNetModel

SIZES = {"model_channels": 32, "num_res_blocks": 1, "attention_resolutions": [1]}


def unet() -> UNetModel:
    torch.manual_seed(0)
    return UNetModel(
        image_size=8,
        in_channels=4,
        out_channels=4,
        channel_mult=(1,),
        num_heads=2,
        use_spatial_transformer=True,
        context_dim=8,
        **SIZES,
    ).eval()


def inputs(side: int, seed: int) -> tuple[torch.Tensor, ...]:
    numbers = torch.Generator().manual_seed(seed)
    context = torch.randn(2, 5, 8, generator=numbers)
    return torch.randn(2, 4, side, side, generator=numbers), torch.full((2,), seed), context


@torch.no_grad()
def test_a_unet_is_one_graph_for_all_prompts_and_one_more_for_all_other_sizes():
    model, graphs = unet(), []
    compiled = torch.compile(
        model, fullgraph=True, backend=lambda graph, _: graphs.append(graph) or graph.forward
    )
    taken = []
    for side, seed in ((8, 1), (8, 2), (12, 3), (20, 4)):
        given = inputs(side, seed)
        assert torch.equal(compiled(*given), model(*given))
        taken.append(len(graphs))
    torch._dynamo.reset()
    assert taken == [1, 1, 2, 2]


@torch.no_grad()
def test_what_was_compiled_is_given_back_and_no_size_is_compiled_any_more():
    own, decoder, graphs = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 3, 1), []
    hub = SimpleNamespace(
        model=SimpleNamespace(diffusion_model=own),
        first_stage_model=SimpleNamespace(decoder=decoder),
    )
    undo = compile_model(hub, backend=lambda graph, _: graphs.append(graph) or graph.forward)
    for side in (8, 12):
        x = torch.ones(1, 4, side, side)
        own(x), decoder(x)
        assert len(graphs) == 2
        undo()
    torch._dynamo.reset()


def test_a_missing_compiler_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="C\\+\\+ compiler"):
        check_compiler(torch.device("cpu"))

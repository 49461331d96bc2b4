"""What Stable Diffusion 2 and its relatives ask of the UNet beyond version 1's form."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from ldm.errors import UserError
from ldm.modules.attention import BasicTransformerBlock, SpatialTransformer
from ldm.modules.diffusionmodules.openaimodel import AttentionBlock, UNetModel
from ldm.util import instantiate_from_config

BASE = {
    "image_size": 8,
    "in_channels": 4,
    "model_channels": 32,
    "out_channels": 4,
    "num_res_blocks": 2,
    "attention_resolutions": [1, 2],
    "channel_mult": [1, 2],
    "num_head_channels": 16,
    "legacy": False,
}
TOKENS = {**BASE, "use_spatial_transformer": True, "context_dim": 6}
V2 = {
    "use_checkpoint": True,
    "use_fp16": True,
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "transformer_depth": 1,
    "context_dim": 1024,
    "legacy": False,
}


def build(params: dict, **changes) -> UNetModel:
    torch.manual_seed(0)
    model = UNetModel(**{**params, **changes}).eval()
    for parameter in model.parameters():  # the zero-initialised layers would hide everything
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def run(model: UNetModel, **changes) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "x": torch.randn(2, 4, 8, 8, generator=generator),
        "timesteps": torch.tensor([3, 700]),
        "context": torch.randn(2, 5, 6, generator=generator),
    }
    with torch.no_grad():
        return model(**{**inputs, **changes})


def sites(model: UNetModel, kind=SpatialTransformer) -> dict[str, torch.nn.Module]:
    return {name: module for name, module in model.named_modules() if isinstance(module, kind)}


def test_the_configuration_of_version_2_builds_its_860_million_weights():
    config = OmegaConf.create(
        {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": V2}
    )
    with torch.device("meta"):
        model = instantiate_from_config(config)
    assert sum(p.numel() for p in model.parameters()) == 865_910_724
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["input_blocks.1.1.proj_in.weight"] == (320, 320)
    assert shapes["middle_block.1.transformer_blocks.0.attn2.to_k.weight"] == (1280, 1024)
    assert {site.transformer_blocks[0].attn1.scale for site in sites(model).values()} == {1 / 8}
    assert model.dtype == torch.float16


def test_a_block_without_self_attention_sees_the_context_twice():
    torch.manual_seed(0)
    block = BasicTransformerBlock(16, 2, 8, context_dim=6, disable_self_attn=True)
    assert block.attn1.to_k.in_features == 6
    x, context = torch.randn(1, 9, 16), torch.randn(1, 4, 6)
    other = x.clone()
    other[:, 0] += 1.0
    changed = (block(x, context) != block(other, context)).any(dim=-1)[0]
    assert changed.tolist() == [True] + [False] * 8  # no token has looked at another


def test_self_attention_is_disabled_by_level_and_in_the_middle():
    model = build(TOKENS, disable_self_attentions=[True, False], disable_middle_self_attn=True)
    disabled = {
        name for name, site in sites(model).items() if site.transformer_blocks[0].disable_self_attn
    }
    first_level = {"input_blocks.1.1", "input_blocks.2.1"}
    first_level |= {f"output_blocks.{n}.1" for n in (3, 4, 5)}
    assert disabled == first_level | {"middle_block.1"}
    assert not torch.allclose(run(model), run(model, context=torch.zeros(2, 5, 6)))


def test_attention_stands_after_so_many_blocks_of_each_level_as_asked():
    model = build(TOKENS, num_attention_blocks=[1, 2])
    assert set(sites(model)) == {
        "input_blocks.1.1",
        *("input_blocks.4.1", "input_blocks.5.1"),
        "middle_block.1",
        *("output_blocks.0.1", "output_blocks.1.1"),
        "output_blocks.3.1",
    }
    assert run(model).shape == (2, 4, 8, 8)


def test_levels_may_differ_in_their_number_of_blocks():
    model = build(TOKENS, num_res_blocks=[1, 3])
    assert (len(model.input_blocks), len(model.output_blocks)) == (1 + 1 + 1 + 3, 2 + 4)
    assert run(model).shape == (2, 4, 8, 8)


@pytest.mark.parametrize(
    ("options", "keys", "labels"),
    [
        ({"num_classes": 5}, {"label_emb.weight"}, torch.tensor([0, 4])),
        (
            {"num_classes": "continuous"},
            {"label_emb.weight", "label_emb.bias"},
            torch.tensor([[0.3], [0.9]]),
        ),
        (
            {"num_classes": "sequential", "adm_in_channels": 7},
            {f"label_emb.0.{n}.{kind}" for n in (0, 2) for kind in ("weight", "bias")},
            torch.linspace(-1, 1, 14).reshape(2, 7),
        ),
    ],
)
def test_labels_of_every_kind_matter_by_row(options, keys, labels):
    model = build(TOKENS, **options)
    assert {name for name in model.state_dict() if name.startswith("label_emb")} == keys
    out, swapped = run(model, y=labels), run(model, y=labels.flip(0))
    assert not torch.allclose(out, swapped, atol=1e-4)
    first = torch.stack([labels[0], labels[0]])
    assert torch.allclose(run(model, y=first)[0], out[0], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"num_classes": 5}, torch.tensor([1])),
        ({"num_classes": "continuous"}, torch.tensor([0.1, 0.2])),
        ({"num_classes": "sequential", "adm_in_channels": 7}, torch.zeros(2, 6)),
        ({}, torch.tensor([1, 2])),
        ({"num_classes": 5}, None),
    ],
)
def test_labels_of_another_shape_are_refused(options, labels):
    with pytest.raises(ValueError, match="expected|num_classes"):
        run(build(TOKENS, **options), y=labels)


def test_heads_of_the_second_half_may_differ():
    plain = {**BASE, "num_head_channels": -1, "num_heads": 2, "legacy": True}
    model = build(plain, num_heads_upsample=4)
    heads = {name: site.num_heads for name, site in sites(model, AttentionBlock).items()}
    assert {n for name, n in heads.items() if name.startswith("output")} == {4}
    assert {n for name, n in heads.items() if not name.startswith("output")} == {2}


def test_codebook_ids_are_predicted_in_place_of_latents():
    model = build(TOKENS, n_embed=11)
    assert run(model).shape == (2, 11, 8, 8)
    assert {"id_predictor.0.weight", "id_predictor.1.weight"} <= set(model.state_dict())


@pytest.mark.parametrize(
    ("params", "changes", "said"),
    [
        (TOKENS, {"num_res_blocks": [1, 2, 3]}, "num_res_blocks .* 2 levels"),
        (TOKENS, {"disable_self_attentions": [True]}, "disable_self_attentions .* 2 levels"),
        (TOKENS, {"num_attention_blocks": [3, 1]}, "no more attention than ResBlocks"),
        (TOKENS, {"num_classes": "sequential"}, "adm_in_channels"),
        (TOKENS, {"num_classes": 5, "adm_in_channels": 7}, "adm_in_channels"),
        (TOKENS, {"num_classes": "sequentual"}, "'sequentual' given"),
        (BASE, {"disable_middle_self_attn": True}, "without a context"),
        (BASE, {"disable_self_attentions": [False, True]}, "without a context"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_in_one_line(params, changes, said):
    with pytest.raises(UserError, match=said) as caught:
        UNetModel(**{**params, **changes})
    assert "\n" not in str(caught.value)

"""open_clip's names and transformers': joined projections, blocks left out, zeros instead."""

from __future__ import annotations

import pytest
import torch
from narrow_models import narrow_config, narrow_model

from ldm.checkpoint.diffusers import text_keymaps
from ldm.errors import UserError


@pytest.fixture(scope="module")
def tower():
    """The weights of a text tower of three blocks, 32 wide, by open_clip's names."""
    return narrow_model(narrow_config("v2")).cond_stage_model.state_dict()


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_kinds_are_told_by_their_names(tower):
    assert text_keymaps.text_kind(tower) == "open_clip"
    clip = narrow_model(narrow_config("v1")).cond_stage_model.state_dict()
    assert text_keymaps.text_kind(clip) == "clip"
    assert text_keymaps.text_kind(["transformer.token_emb.weight"]) is None


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("layers", [3, 2, 1])
def test_what_has_a_place_comes_back_and_what_has_none_is_given_separately(tower, layers, flat):
    placed, rest = text_keymaps.open_clip_to_transformers(tower, layers, flat=flat)
    assert text_keymaps.count_layers(placed) == layers
    assert all(name.startswith("text_model.") != flat for name in placed)
    back = text_keymaps.open_clip_from_transformers(placed)
    assert equal({**back, **rest}, tower)
    unused = ["model.text_projection", "model.logit_scale"]
    above = [f".resblocks.{n}." for n in range(layers, 3)]
    assert all(name in unused or any(block in name for block in above) for name in rest)


def test_projections_are_split_in_the_order_of_queries_keys_values(tower):
    placed, _ = text_keymaps.open_clip_to_transformers(tower, 3)
    attention = "text_model.encoder.layers.1.self_attn"
    for kind in ("weight", "bias"):
        joined = tower[f"model.transformer.resblocks.1.attn.in_proj_{kind}"]
        for row, part in enumerate(("q_proj", "k_proj", "v_proj")):
            expected = joined[32 * row : 32 * (row + 1)]
            assert torch.equal(placed[f"{attention}.{part}.{kind}"], expected)


def test_stand_ins_are_zeros_above_the_last_block_and_nowhere_else(tower):
    shapes = {name: tuple(value.shape) for name, value in tower.items()}
    placed, rest = text_keymaps.open_clip_to_transformers(tower, 2)
    there = text_keymaps.open_clip_from_transformers(placed)
    made = text_keymaps.stand_ins(there, shapes)
    assert made.keys() == rest.keys()
    assert all(made[n].shape == rest[n].shape and not made[n].any() for n in made)
    there.pop("model.transformer.resblocks.0.ln_1.weight")
    assert text_keymaps.stand_ins(there, shapes).keys() == rest.keys()


@torch.no_grad()
def test_a_block_of_zeros_changes_nothing():
    config = narrow_config("v2")
    config["model"]["params"]["cond_stage_config"]["params"]["layer"] = "last"
    embedder = narrow_model(config).cond_stage_model
    embedder.layer = "penultimate"
    expected = embedder(["a cat"])
    for value in embedder.model.transformer.resblocks[2].parameters():
        value.zero_()
    embedder.layer = "last"
    assert torch.equal(embedder(["a cat"]), expected)


def test_a_weight_without_a_place_is_an_error_that_names_it():
    with pytest.raises(UserError, match=r"embeddings\.class_embedding"):
        text_keymaps.open_clip_from_transformers({"embeddings.class_embedding": torch.zeros(1)})


@pytest.mark.parametrize("part", ["q_proj", "k_proj", "v_proj"])
def test_a_projection_without_the_others_is_an_error_that_names_it(tower, part):
    placed, _ = text_keymaps.open_clip_to_transformers(tower, 2, flat=True)
    del placed[f"encoder.layers.1.self_attn.{part}.weight"]
    with pytest.raises(UserError, match=rf"1\.self_attn\.{part}\.weight"):
        text_keymaps.open_clip_from_transformers(placed)

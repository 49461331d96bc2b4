"""Names in a checkpoint: what strict loading leaves aside and what it still refuses."""

from __future__ import annotations

import logging
from collections import OrderedDict

import pytest
import torch
from torch import nn

from ldm.checkpoint.names import family_state, recognise

IDS = "transformer.text_model.embeddings.position_ids"


class Hub(nn.Module):
    """A module with one weight of each component, and optionally averages and a loss."""

    def __init__(self, *extra: str):
        super().__init__()
        for name in ("model.diffusion_model.out", "first_stage_model.encoder", *extra):
            self._put(name)

    def _put(self, name: str) -> None:
        *path, last = name.split(".")
        owner = self
        for part in path:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        owner.register_buffer(last, torch.full((2,), 1.0))


@pytest.mark.parametrize(
    "name",
    [
        "logvar",
        "loss.logvar",
        "first_stage_model.loss.logvar",
        "first_stage_model.loss.discriminator.main.0.weight",
        "loss.perceptual_loss.lin0.model.1.weight",
        f"cond_stage_model.{IDS}",
        "cond_stage_model.model.attn_mask",
        IDS,
        "model_ema.decay",
        "model_ema.num_updates",
        "model_ema.diffusion_modelout2weight",
        "first_stage_model.model_ema.encoderconv_inweight",
        "lvlb_weights",
        "posterior_variance",
    ],
)
def test_strict_loading_passes_over_what_the_family_stores_in_vain(name, caplog):
    model = Hub()
    given = {key: value * 3 for key, value in model.state_dict().items()}
    with caplog.at_level(logging.INFO):
        state = family_state(model.state_dict(), {**given, name: torch.zeros(4)})
    model.load_state_dict(state, strict=True)
    assert all(torch.equal(value, given[key]) for key, value in model.state_dict().items())
    (record,) = caplog.records
    assert name in record.getMessage()


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.extra",
        "first_stage_model.quant_conv.weight",
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
        "control_model.zero_convs.0.weight",
        "scale_factor",
        "something",
    ],
)
def test_strict_loading_still_refuses_a_weight_that_the_model_lacks(name):
    model = Hub()
    state = family_state(model.state_dict(), {**model.state_dict(), name: torch.zeros(4)})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        model.load_state_dict(state, strict=True)


def test_a_model_that_keeps_averages_and_losses_wants_exactly_its_own():
    model = Hub("model_ema.decay", "loss.logvar", "logvar")
    given = {**model.state_dict(), "model_ema.other": torch.ones(1), "loss.other": torch.ones(1)}
    state = family_state(model.state_dict(), given)
    assert list(state) == list(given)


def test_a_constant_that_the_file_omits_is_the_models_own_and_a_missing_weight_is_refused():
    model = Hub(f"cond_stage_model.{IDS}", "cond_stage_model.model.attn_mask")
    given = {n: v for n, v in model.state_dict().items() if not n.startswith("cond_stage_model")}
    model.load_state_dict(family_state(model.state_dict(), given), strict=True)
    del given["model.diffusion_model.out"]
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(family_state(model.state_dict(), given), strict=True)


def test_the_frozen_perceptual_network_keeps_the_models_values_where_names_differ():
    ours, theirs = "loss.perceptual_loss.shift", "loss.perceptual_loss.scaling_layer.shift"
    model = Hub(ours, "loss.perceptual_loss.lin0", "loss.discriminator")
    given = {name: value * 3 for name, value in model.state_dict().items() if name != ours}
    state = family_state(model.state_dict(), {**given, theirs: torch.zeros(2)})
    model.load_state_dict(state, strict=True)
    expected = {**given, ours: torch.full((2,), 1.0)}
    assert all(torch.equal(value, expected[n]) for n, value in model.state_dict().items())


def test_a_state_dict_keeps_its_order_and_its_module_versions_and_is_not_modified():
    given = OrderedDict(b=1, logvar=2, a=3)
    given._metadata = {"": {"version": 2}}
    state = family_state({"a": 0, "b": 0}, given)
    assert list(state.items()) == [("b", 1), ("a", 3)]
    assert state._metadata is given._metadata
    assert list(given) == ["b", "logvar", "a"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("input_blocks.0.0.weight", "a UNet alone"),
        ("emb_params", "a textual inversion: words for a text encoder"),
        ("string_to_token.*", "a textual inversion: words for a text encoder"),
        ("encoder.down.0.block.0.conv1.weight", "an autoencoder alone"),
        ("control_model.input_blocks.0.0.weight input_blocks.0.0.weight", "a ControlNet"),
        ("lora_te_text_model.lora_up.weight", "a LoRA"),
    ],
)
def test_a_file_of_another_kind_is_recognised_by_its_names(names, words):
    assert recognise(dict.fromkeys(names.split(), (4, 4, 4))) == words

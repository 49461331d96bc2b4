from __future__ import annotations

import copy

import pytest
import torch
from tiny_model import CONFIG

from ldm.checkpoint.drawn_by import for_drawing
from ldm.util import instantiate_from_config

IN_VAIN = {
    "logvar": torch.zeros(1000),
    "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    "model_ema.diffusion_modelout2bias": torch.zeros(4),
    "model_ema.decay": torch.tensor(0.9999),
    "model_ema.num_updates": torch.tensor(3),
}


@pytest.fixture(scope="module", params=["the public class", "the class that draws"])
def model(request):
    config = copy.deepcopy(CONFIG["model"])
    config["params"]["use_ema"] = False
    return instantiate_from_config(config if "public" in request.param else for_drawing(config))


@pytest.mark.parametrize("key", IN_VAIN)
def test_what_the_family_stores_in_vain_is_loaded_strictly(model, key):
    state = {**model.state_dict(), key: IN_VAIN[key]}
    model.load_state_dict(state, strict=True)
    assert key in state  # the caller's dict stays whole


@pytest.mark.parametrize("strict", [True, False])
def test_weights_are_filled_and_the_first_stage_by_itself_too(model, strict):
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    model.load_state_dict(state, strict=strict)
    assert not any(parameter.any() for parameter in model.parameters())
    first_stage = model.first_stage_model
    first_stage.load_state_dict({**first_stage.state_dict(), "loss.logvar": torch.zeros(())})


@pytest.mark.parametrize("key", ["model.diffusion_model.out.9.weight", "control_model.x", "lora"])
def test_keys_of_something_else_are_refused_as_ever(model, key):
    with pytest.raises(RuntimeError, match=key):
        model.load_state_dict({**model.state_dict(), key: torch.zeros(1)})


def test_missing_weights_are_refused_as_ever(model):
    state = dict(model.state_dict())
    state.pop("model.diffusion_model.out.2.weight")
    with pytest.raises(RuntimeError, match=r"out\.2\.weight"):
        model.load_state_dict(state)


@pytest.mark.parametrize("part", ["model_ema.decay", "loss.discriminator.main.0.weight"])
def test_what_a_first_stage_stores_in_vain_is_judged_apart_from_the_hub(part):
    config = copy.deepcopy(CONFIG["model"])
    config["params"]["use_ema"] = True
    hub = instantiate_from_config(config)
    state = {**hub.state_dict(), f"first_stage_model.{part}": torch.zeros(())}
    hub.load_state_dict(state, strict=True)

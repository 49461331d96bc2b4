"""Every published configuration has exactly the reference's checkpoint keys and shapes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden_keys import V1, recorded_keys
from torch import nn

from ldm.checkpoint.load import for_inference
from ldm.config import load_config
from ldm.util import instantiate_from_config

ROOT = Path(__file__).resolve().parents[1]


def on_meta(path: str) -> nn.Module:
    config = for_inference(load_config(ROOT / path).model)
    with torch.device("meta"):
        return instantiate_from_config(config)


def test_all_configurations_of_the_reference_are_recorded_keys():
    assert len(recorded_keys()) == 32


@pytest.mark.parametrize("path", recorded_keys())
def test_a_configuration_has_the_reference_s_keys_and_shapes(path):
    wanted = recorded_keys()[path]
    found = {key: list(value.shape) for key, value in on_meta(path).state_dict().items()}
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    assert (missing[:5], extra[:5]) == ([], [])
    assert {k: v for k, v in found.items() if v != wanted[k]} == {}


SD2_TEXT = "cond_stage_model.model."


@pytest.mark.parametrize(
    ("path", "channels"),
    [
        ("configs/stable-diffusion/v2-inference.yaml", 4),
        ("configs/stable-diffusion/v2-inference-v.yaml", 4),
        ("configs/stable-diffusion/v2-inpainting-inference.yaml", 9),
        ("configs/stable-diffusion/v1-inpainting-inference.yaml", 9),
    ],
)
def test_later_stable_diffusions_differ_where_they_say(path, channels):
    found = {key: list(value.shape) for key, value in on_meta(path).state_dict().items()}
    v1 = recorded_keys()[V1]
    first = "model.diffusion_model.input_blocks.0.0.weight"
    assert found[first] == [320, channels, 3, 3]
    organs = ("model.diffusion_model.", "first_stage_model.")
    names = {key for key in v1 if key.startswith(organs)}
    assert {key for key in found if key.startswith(organs)} == names
    if "/v1" in path:
        assert {k for k in found if found[k] != v1.get(k)} == {first}
        return
    proj = "model.diffusion_model.input_blocks.1.1.proj_in.weight"
    keys = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    assert found[proj] == [320, 320] and found[keys] == [320, 1024]
    text = {key.removeprefix(SD2_TEXT) for key in found if key.startswith(SD2_TEXT)}
    assert {"token_embedding.weight", "positional_embedding", "ln_final.weight"} <= text
    assert found[SD2_TEXT + "token_embedding.weight"] == [49408, 1024]
    assert sum(key.endswith("attn.in_proj_weight") for key in text) == 24

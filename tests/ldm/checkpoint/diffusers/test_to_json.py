"""The JSON files that we write describe networks of diffusers that have our weights' shapes.

Published sizes are built on the meta device, in both libraries, and compared key by key.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from narrow_models import narrow_config, narrow_model
from omegaconf import OmegaConf

from ldm.checkpoint.diffusers.convert import name_for_folder
from ldm.checkpoint.diffusers.to_json import folder_configs
from ldm.checkpoint.load import build_empty
from ldm.config import load_config
from ldm.errors import UserError

ROOT = Path(__file__).resolve().parents[4]
CONFIGS = ROOT / "configs" / "stable-diffusion"
PUBLISHED = {
    "v1-inference": (686, 248, 196),
    "v1-inpainting-inference": (686, 248, 196),
    "v2-inference": (686, 248, 372),
    "v2-inference-v": (686, 248, 372),
    "v2-inpainting-inference": (686, 248, 372),
}


def described(config):
    """Return a model on the meta device, its parameters and the folder's JSON files."""
    params = OmegaConf.to_container(OmegaConf.create(config).model.params, resolve=True)
    model = build_empty(OmegaConf.create(config))
    return model, params, folder_configs(params, model)


def their_shapes(files):
    """Build each network of a folder in its own library; return key to shape, by part."""
    diffusers, transformers = (pytest.importorskip(name) for name in ("diffusers", "transformers"))
    text = dict(files["text_encoder/config.json"])
    with torch.device("meta"):
        networks = {
            "unet": diffusers.UNet2DConditionModel.from_config(files["unet/config.json"]),
            "vae": diffusers.AutoencoderKL.from_config(files["vae/config.json"]),
            "text_encoder": transformers.CLIPTextModel(transformers.CLIPTextConfig(**text)),
        }
    return {part: shapes(network.state_dict()) for part, network in networks.items()}


def shapes(state):
    # transformers from 5.6 leaves text_model. out of its own names, and reads it in files.
    return {
        name.removeprefix("text_model."): tuple(value.shape)
        for name, value in state.items()
        if not name.endswith("position_ids")
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_of_a_published_model_has_its_place_and_shape_in_diffusers(name):
    model, params, files = described(load_config(CONFIGS / f"{name}.yaml"))
    parts, rest = name_for_folder(dict(model.state_dict()), model, params, files)
    assert {part: shapes(state) for part, state in parts.items()} == their_shapes(files)
    assert tuple(map(len, parts.values())) == PUBLISHED[name]
    # One to one: what has no place is the schedule, and what SD 2 leaves out of its text encoder.
    unused = [n for n in rest if "." in n]
    assert len(unused) == (14 if name.startswith("v2") else 0)
    assert all("resblocks.23." in n or "text_pro" in n or "logit_scale" in n for n in unused)


@pytest.mark.parametrize("kind", ["v1", "v2", "inpainting", "other"])
def test_a_network_that_nobody_published_is_described_by_its_configuration(kind):
    model, params, files = described(narrow_config(kind))
    parts, _ = name_for_folder(dict(model.state_dict()), model, params, files)
    assert {part: shapes(state) for part, state in parts.items()} == their_shapes(files)


def test_v1_is_described_as_its_published_folder_is():
    _, _, files = described(load_config(CONFIGS / "v1-inference.yaml"))
    unet = files["unet/config.json"]
    assert unet["block_out_channels"] == [320, 640, 1280, 1280]
    assert unet["attention_head_dim"] == 8 and unet["cross_attention_dim"] == 768
    assert unet["down_block_types"] == [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"]
    assert unet["up_block_types"] == ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3]
    assert files["vae/config.json"]["scaling_factor"] == 0.18215
    assert files["vae/config.json"]["sample_size"] == 512
    scheduler = files["scheduler/scheduler_config.json"]
    assert scheduler["_class_name"] == "PNDMScheduler" and scheduler["skip_prk_steps"] is True
    assert (scheduler["beta_start"], scheduler["beta_end"]) == (0.00085, 0.012)
    assert scheduler["beta_schedule"] == "scaled_linear" and scheduler["steps_offset"] == 1
    index = files["model_index.json"]
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["safety_checker"] == index["feature_extractor"] == [None, None]


def test_v2_has_a_block_less_in_its_folder_and_heads_by_level():
    _, _, files = described(load_config(CONFIGS / "v2-inference-v.yaml"))
    text, unet = files["text_encoder/config.json"], files["unet/config.json"]
    assert (text["num_hidden_layers"], text["hidden_size"], text["hidden_act"]) == (
        23,
        1024,
        "gelu",
    )
    assert unet["attention_head_dim"] == [5, 10, 20, 20] and unet["use_linear_projection"]
    assert unet["sample_size"] == 96
    assert files["scheduler/scheduler_config.json"]["prediction_type"] == "v_prediction"


@pytest.mark.parametrize("schedule", ["linear", "sqrt_linear", "sqrt", "cosine"])
def test_diffusers_makes_the_same_schedule(schedule):
    diffusers = pytest.importorskip("diffusers")
    config = narrow_config("v1")
    config["model"]["params"]["beta_schedule"] = schedule
    model = narrow_model(config)
    _, _, files = described(config)
    theirs = diffusers.DDIMScheduler.from_config(files["scheduler/scheduler_config.json"])
    # Theirs is a product of float32 numbers, ours of float64.
    assert torch.allclose(theirs.alphas_cumprod, model.alphas_cumprod, rtol=1e-4, atol=1e-9)


UNET, FIRST = "unet_config", "first_stage_config"


@pytest.mark.parametrize(
    ("where", "change", "words"),
    [
        ((UNET, "params"), {"conv_resample": False}, "unet_config has conv_resample: False"),
        ((UNET, "params"), {"num_classes": 10}, "num_classes: 10"),
        ((UNET, "params"), {"disable_middle_self_attn": True}, "disable_middle_self_attn"),
        ((FIRST, "params", "ddconfig"), {"attn_type": "linear"}, "vanilla or none"),
        ((FIRST, "params", "ddconfig"), {"tanh_out": True}, "tanh_out: True"),
        ((FIRST, "params"), {"embed_dim": 3}, "embed_dim 3 and z_channels 4"),
        ((FIRST,), {"target": "ldm.models.autoencoder.IdentityFirstStage"}, "an AutoencoderKL"),
        ((), {"conditioning_key": "concat"}, "conditioning_key is 'concat'"),
    ],
)
def test_what_diffusers_does_not_have_is_an_error_that_names_it(where, change, words):
    config = narrow_config("v1")
    model = build_empty(OmegaConf.create(config))
    params = copy.deepcopy(config["model"]["params"])
    node = params
    for key in where:
        node = node[key]
    node.update(change)
    with pytest.raises(UserError, match="no counterpart") as caught:
        folder_configs(params, model)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("configs/latent-diffusion/celebahq-ldm-vq-4.yaml", "VQModelInterface; expected an Auto"),
        ("configs/latent-diffusion/txt2img-1p4B-eval.yaml", "conditioner is BERTEmbedder"),
        ("configs/autoencoder/autoencoder_kl_64x64x3.yaml", "first_stage_config.target is None"),
    ],
)
def test_models_of_the_family_without_a_pipeline_there_are_refused(name, words):
    with pytest.raises(UserError, match="no counterpart") as caught:
        described(load_config(ROOT / name))
    assert words in str(caught.value)


def test_levels_that_a_configuration_leaves_unsaid_are_its_networks_own():
    config = narrow_config("v1")
    del config["model"]["params"]["unet_config"]["params"]["channel_mult"]
    del config["model"]["params"]["first_stage_config"]["params"]["ddconfig"]["ch_mult"]
    model, params, files = described(config)
    assert files["unet/config.json"]["block_out_channels"] == [32, 64, 128, 256]
    parts, _ = name_for_folder(dict(model.state_dict()), model, params, files)
    assert {part: shapes(state) for part, state in parts.items()} == their_shapes(files)


def test_a_text_encoder_of_another_kind_is_an_error_that_names_it():
    config = narrow_config("v1")
    model = build_empty(OmegaConf.create(config))
    model.cond_stage_model = torch.nn.Linear(1, 1)
    with pytest.raises(UserError, match="conditioner is Linear"):
        folder_configs(config["model"]["params"], model)

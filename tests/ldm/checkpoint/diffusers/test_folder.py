"""Folders as they are found: published ones, of every age, in every form of weights."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from narrow_models import write_narrow_model
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from ldm.checkpoint.diffusers import keymaps
from ldm.checkpoint.diffusers.convert import Conversion, to_diffusers
from ldm.checkpoint.diffusers.folder import read_diffusers
from ldm.checkpoint.diffusers.json_files import KEPT
from ldm.checkpoint.diffusers.to_json import folder_configs
from ldm.checkpoint.diffusers.to_yaml import folder_config
from ldm.checkpoint.load import build_empty, load_model
from ldm.config import load_config
from ldm.errors import UserError

CONFIGS = Path(__file__).resolve().parents[4] / "configs" / "stable-diffusion"

# The JSON of the published folders, as diffusers 0.6 (v1) and 0.8 (v2) wrote it.
V1 = {
    "model_index.json": {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    },
    "unet/config.json": {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": False,
        "cross_attention_dim": 768,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    },
    "vae/config.json": {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 512,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    "text_encoder/config.json": {
        "architectures": ["CLIPTextModel"],
        "bos_token_id": 0,
        "eos_token_id": 2,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 1,
        "projection_dim": 768,
        "vocab_size": 49408,
    },
    "scheduler/scheduler_config.json": {
        "_class_name": "PNDMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    },
    "tokenizer/special_tokens_map.json": {
        "bos_token": {"content": "<|startoftext|>"},
        "eos_token": {"content": "<|endoftext|>"},
        "pad_token": "<|endoftext|>",
    },
}
V2_CHANGES = {
    "unet/config.json": {
        "attention_head_dim": [5, 10, 20, 20],
        "cross_attention_dim": 1024,
        "dual_cross_attention": False,
        "num_class_embeds": None,
        "only_cross_attention": False,
        "sample_size": 96,
        "upcast_attention": True,
        "use_linear_projection": True,
    },
    "vae/config.json": {"sample_size": 768},
    "text_encoder/config.json": {
        "hidden_act": "gelu",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 23,
        "projection_dim": 512,
    },
    "scheduler/scheduler_config.json": {
        "_class_name": "DDIMScheduler",
        "prediction_type": "v_prediction",
    },
    "tokenizer/special_tokens_map.json": {"pad_token": "!"},
}
INPAINTING_CHANGES = {
    "model_index.json": {"_class_name": "StableDiffusionInpaintPipeline"},
    "unet/config.json": {"in_channels": 9},
}
PUBLISHED = {
    "v1-inference": {},
    "v1-inpainting-inference": INPAINTING_CHANGES,
    "v2-inference-v": V2_CHANGES,
}


def write_json(folder, changes=None):
    for name, content in V1.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content | (changes or {}).get(name, {})), encoding="utf-8")
    return folder


def described(config):
    """Return what tells a model: its keys and shapes, and the folder that it makes."""
    model = build_empty(config)
    params = OmegaConf.to_container(config.model.params, resolve=True)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return type(model), model.parameterization, shapes, folder_configs(params, model)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_folder_is_the_model_of_our_configuration(name, tmp_path):
    found = described(folder_config(write_json(tmp_path, PUBLISHED[name])))
    assert found == described(load_config(CONFIGS / f"{name}.yaml"))


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionXLPipeline"}, "XLPipeline"),
        ("unet/config.json", {"in_channels": 5}, "has 5 for in_channels; expected 4, or 9"),
        ("unet/config.json", {"class_embed_type": "timestep"}, "class_embed_type"),
        ("unet/config.json", {"only_cross_attention": [True] * 4}, "only_cross_attention"),
        ("unet/config.json", {"attention_head_dim": [8, 8, 8, 4]}, "attention_head_dim"),
        ("unet/config.json", {"down_block_types": ["DownBlock2D"] * 4}, "up_block_types"),
        ("unet/config.json", {"block_out_channels": [320, 500]}, "multiples of the first"),
        ("unet/config.json", {"sample_size": "64"}, "has '64' for sample_size"),
        ("vae/config.json", {"shift_factor": 0.1}, "shift_factor"),
        ("vae/config.json", {"use_quant_conv": False}, "use_quant_conv"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction_type"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "x"}, "beta_schedule"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, "zero_snr"),
        ("tokenizer/special_tokens_map.json", {"pad_token": "[PAD]"}, "pads with '[PAD]'"),
    ],
)
def test_what_our_networks_do_not_have_is_an_error_that_names_it(file, change, words, tmp_path):
    with pytest.raises(UserError) as caught:
        folder_config(write_json(tmp_path, {file: change}))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in V1 if not name.startswith("tokenizer")])
def test_a_file_that_is_not_there_or_no_json_is_named(name, tmp_path):
    folder = write_json(tmp_path)
    (folder / name).write_text("<html>", encoding="utf-8")
    with pytest.raises(UserError, match=name):
        folder_config(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        folder_config(folder)


# --- weights in every form ---


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A checkpoint and its folder, not to be changed."""
    home = tmp_path_factory.mktemp("narrow")
    ckpt, config = write_narrow_model(home, "v1")
    to_diffusers(ckpt, home / "folder", config, Conversion())
    return ckpt, home / "folder"


@pytest.fixture
def folder(converted, tmp_path):
    """A copy of the folder without what was kept beside it: as anybody's."""
    shutil.copytree(converted[1], tmp_path / "folder")
    (tmp_path / "folder" / KEPT).unlink()
    return tmp_path / "folder"


FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


def assert_read_as_the_file(folder, converted, dtype=torch.float32):
    found = read_diffusers(folder).checkpoint.tensors
    expected = {n: v for n, v in load_file(converted[0]).items() if "." in n}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value.to(dtype)), name


def rewrite(folder, part, change):
    """Replace a part's weights by what ``change(weights, its folder)`` writes."""
    path = folder / part / FILES[part]
    weights = load_file(path)
    path.unlink()
    change({name: value.clone() for name, value in weights.items()}, path.parent)


def as_bin(weights, home):
    torch.save(weights, home / ("pytorch_model.bin" if home.name == "text_encoder" else BIN))


BIN = "diffusion_pytorch_model.bin"


def as_fp16(weights, home):
    name = FILES[home.name].replace(".safetensors", ".fp16.safetensors")
    save_file({n: v.half() for n, v in weights.items()}, home / name)


def in_shards(weights, home, variant=""):
    stem, names = FILES[home.name].removesuffix(".safetensors"), sorted(weights)
    shards = {f"{stem}{variant}-0000{i}-of-00002.safetensors": names[i - 1 :: 2] for i in (1, 2)}
    for file, inside in shards.items():
        save_file({name: weights[name] for name in inside}, home / file)
    index = {"weight_map": {name: file for file, inside in shards.items() for name in inside}}
    (home / f"{stem}.safetensors.index{variant}.json").write_text(json.dumps(index))


@pytest.mark.parametrize("form", [as_bin, in_shards])
def test_weights_are_read_from_pickles_and_from_shards(form, folder, converted):
    for part in FILES:
        rewrite(folder, part, form)
    assert_read_as_the_file(folder, converted)


def test_a_variant_in_half_precision_is_read_where_there_is_nothing_fuller(folder, converted):
    for part in FILES:
        rewrite(folder, part, lambda weights, home: as_fp16(weights, home))
    assert_read_as_the_file(folder, converted, torch.float16)
    for part in FILES:
        shutil.copy(converted[1] / part / FILES[part], folder / part)
    assert_read_as_the_file(folder, converted)


def test_shards_of_a_variant_are_read(folder, converted):
    for part in FILES:
        rewrite(folder, part, lambda weights, home: in_shards(weights, home, ".fp16"))
    assert_read_as_the_file(folder, converted)


def test_an_autoencoder_of_diffusers_before_0_17_is_read(folder, converted):
    ddconfig = {"ch_mult": [1, 1], "num_res_blocks": 1}

    def older(weights, home):
        state = keymaps.vae_from_diffusers(weights, ddconfig)
        named = keymaps.vae_to_diffusers(state, ddconfig, old_names=True)
        assert any(".query." in name for name in named)
        save_file({n: v.contiguous() for n, v in named.items()}, home / FILES["vae"])

    rewrite(folder, "vae", older)
    assert_read_as_the_file(folder, converted)


@pytest.mark.parametrize("flat", [False, True])
def test_a_text_encoder_of_any_transformers_release_is_read(flat, folder, converted):
    def change(weights, home):
        prefix = "text_model."
        named = {n.removeprefix(prefix) if flat else n: v for n, v in weights.items()}
        position_ids = f"{'' if flat else prefix}embeddings.position_ids"
        save_file({**named, position_ids: torch.arange(77)[None]}, home / FILES["text_encoder"])

    rewrite(folder, "text_encoder", change)
    assert_read_as_the_file(folder, converted)


def test_the_schedule_is_computed_as_the_checkpoint_has_it(folder, converted):
    model, report = load_model(read_diffusers(folder).config, folder)
    expected = load_file(converted[0])
    assert torch.equal(model.alphas_cumprod, expected["alphas_cumprod"])
    assert not report.warnings()


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_a_pickle_that_asks_to_run_code_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rewrite(folder, "unet", lambda weights, home: torch.save({"x": Evil()}, home / BIN))
    with pytest.raises(UserError, match="refused"):
        read_diffusers(folder)
    assert not (tmp_path / "evil").exists()


def test_an_index_leads_to_files_beside_it_only(folder, tmp_path):
    def outside(weights, home):
        save_file(weights, tmp_path / "elsewhere.safetensors")
        index = {"weight_map": dict.fromkeys(weights, "../../elsewhere.safetensors")}
        (home / f"{FILES['unet']}.index.json").write_text(json.dumps(index))

    rewrite(folder, "unet", outside)
    with pytest.raises(UserError, match=r"unet/elsewhere\.safetensors.* does not exist"):
        read_diffusers(folder)


def test_missing_weights_are_named(folder, converted):
    rewrite(folder, "vae", lambda weights, home: save_file(weights, home / "x.ema.safetensors"))
    with pytest.raises(UserError, match=r"no weights in vae \(there are x\.ema\.safetensors\)"):
        read_diffusers(folder)

    def without_one(weights, home):
        weights.pop("decoder.conv_in.weight")
        save_file(weights, home / FILES["vae"])

    shutil.copy(converted[1] / "vae" / FILES["vae"], folder / "vae")
    rewrite(folder, "vae", without_one)
    with pytest.raises(UserError, match=r"first_stage_model\.decoder\.conv_in\.weight"):
        load_model(folder_config(folder), folder)


def test_a_network_of_another_shape_than_its_json_is_an_error(folder):
    rewrite(
        folder,
        "unet",
        lambda weights, home: save_file(
            {**weights, "up_blocks.7.resnets.0.conv1.weight": torch.zeros(1)}, home / FILES["unet"]
        ),
    )
    with pytest.raises(UserError, match=r"up_blocks\.7"):
        read_diffusers(folder)


def test_what_was_kept_and_damaged_is_named(folder):
    (folder / KEPT).write_bytes(b"nothing")
    with pytest.raises(UserError, match=KEPT):
        folder_config(folder)

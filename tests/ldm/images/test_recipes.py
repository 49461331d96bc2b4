"""How pictures were made, as other programs write it into their files."""

from __future__ import annotations

import copy
import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ldm.errors import UserError
from ldm.images.recipes import read_recipe


@pytest.fixture
def save(tmp_path):
    """Save a picture of 64x96 with texts in it; return its path."""

    def saver(**texts):
        chunks = PngInfo()
        for key, text in texts.items():
            text = text if isinstance(text, str) else json.dumps(text)
            chunks.add_text(key.replace("__", "-"), text)
        Image.new("RGB", (64, 96)).save(tmp_path / "x.png", pnginfo=chunks)
        return tmp_path / "x.png"

    return saver


def comfyui(**sampler):
    """A graph that draws one picture from text."""
    inputs = {"seed": 156680208700286, "steps": 20, "cfg": 8.0, "sampler_name": "euler_ancestral"}
    inputs |= {"scheduler": "normal", "denoise": 1.0, "latent_image": ["5", 0], "model": ["4", 0]}
    inputs |= {"positive": ["6", 0], "negative": ["7", 0], **sampler}
    nodes = {
        "3": ("KSampler", inputs),
        "4": ("CheckpointLoaderSimple", {"ckpt_name": "v1-5.safetensors"}),
        "5": ("EmptyLatentImage", {"width": 512, "height": 640, "batch_size": 1}),
        "6": ("CLIPTextEncode", {"text": "a cat", "clip": ["4", 1]}),
        "7": ("CLIPTextEncode", {"text": "fog", "clip": ["4", 1]}),
        "8": ("VAEDecode", {"samples": ["3", 0], "vae": ["4", 2]}),
        "9": ("SaveImage", {"images": ["8", 0]}),
    }
    return {key: {"class_type": kind, "inputs": values} for key, (kind, values) in nodes.items()}


INVOKEAI = {
    "app_version": "3.4.0",
    "generation_mode": "txt2img",
    "positive_prompt": "a cat",
    "negative_prompt": "fog",
    "width": 512,
    "height": 640,
    "seed": 3,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "steps": 30,
    "scheduler": "euler_a",
    "model": {"model_name": "sd15", "base_model": "sd-1"},
    "controlnets": [],
    "vae": None,
}
SD_METADATA = {
    "model": "stable diffusion",
    "model_weights": "sd-1.4",
    "app_id": "invoke-ai/InvokeAI",
    "image": {
        "prompt": [{"prompt": "a cat", "weight": 1}],
        "steps": 50,
        "cfg_scale": 7.5,
        "height": 512,
        "width": 448,
        "seed": 3,
        "seamless": False,
        "type": "txt2img",
        "sampler": "k_lms",
    },
}
NOVELAI = {"steps": 28, "sampler": "k_euler", "seed": 7, "strength": 0.7, "scale": 11, "uc": "fog"}
SWARM = {"prompt": "a cat", "negativeprompt": "fog", "seed": 2, "steps": 20, "cfgscale": 7.5}
SWARM |= {"width": 512, "height": 768, "sampler": "dpmpp_2m", "scheduler": "karras"}
FOOOCUS = {"prompt": "a cat", "seed": "1234567890123", "steps": 30, "guidance_scale": 4.0}
FOOOCUS |= {"sampler": "euler", "resolution": "(896, 1152)"}
EASY = {"prompt": "a cat", "seed": "5", "num_inference_steps": "25", "guidance_scale": "7.5"}
EASY |= {"sampler_name": "euler_a", "width": "512", "height": "576", "negative_prompt": "fog"}
DRAW_THINGS = {"c": "a cat", "uc": "fog", "seed": 3, "steps": 20, "sampler": "Euler A"}
DRAW_THINGS |= {"scale": 7.5, "size": "512x448"}


@pytest.mark.parametrize(
    ("texts", "negative", "expected"),
    [
        (
            {"prompt": comfyui(), "workflow": {}},
            "fog",
            "20 8.0 156680208700286 Euler a 512x640 v1-5.safetensors",
        ),
        ({"prompt": comfyui(scheduler="karras")}, "fog", "karras"),
        ({"invokeai_metadata": INVOKEAI}, "fog", "30 7.5 3 Euler a 512x640 sd15"),
        ({"invokeai_metadata": {**INVOKEAI, "seed": 0}}, "fog", "30 7.5 0 Euler a 512x640"),
        ({"sd__metadata": SD_METADATA}, "", "50 7.5 3 LMS 448x512 sd-1.4"),
        ({"Dream": '"a cat" -s 50 -S 123 -W 512 -H 576 -C7.5 -A k_euler_a'}, "", "50 7.5 123"),
        (
            {"Software": "NovelAI", "Description": "a cat", "Comment": NOVELAI},
            "fog",
            "28 11 7 Euler 64x96",
        ),
        (EASY, "fog", "25 7.5 5 Euler a 512x576"),
        ({"parameters": {"sui_image_params": SWARM}}, "fog", "20 7.5 2 DPM++ 2M 512x768 karras"),
        ({"parameters": FOOOCUS}, "", "30 4.0 1234567890123 Euler 896x1152"),
        ({"parameters": DRAW_THINGS}, "fog", "20 7.5 3 512x448"),
        ({"parameters": "a cat\nSteps: 9, Seed: 1, Size: 64x64"}, "", "9 1 64x64"),
        ({"parameters": "a cat", "prompt": comfyui()}, "fog", "20 8.0 Euler a"),
    ],
)
def test_each_programs_form_is_read(save, texts, negative, expected):
    recipe = read_recipe(save(**texts))
    assert (recipe.prompt, recipe.negative_prompt) == ("a cat", negative)
    assert "Denoising strength" not in recipe.entries  # NovelAI notes one for every picture
    said = " ".join(
        recipe.entries.get(key, "")
        for key in ("Steps", "CFG scale", "Seed", "Sampler", "Size", "Model", "Schedule type")
    ).split()
    assert [word for word in expected.split() if word not in said] == []


def test_what_a_form_says_besides_is_kept_under_a_name():
    graph = comfyui()
    assert "Clip skip" not in _entries(graph)
    graph["10"] = {"class_type": "LoraLoader", "inputs": {"lora_name": "x"}}
    graph["11"] = {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2}}
    entries = _entries(graph)
    assert (entries["nodes"], entries["clip_skip"]) == ("LoraLoader", 2)


def _entries(graph):
    from ldm.images.comfyui import values_of_graph

    return {key: value for key, value in values_of_graph(graph).items() if value is not None}


def test_invokeai_counts_skipped_layers_and_automatic1111_the_layer_used(save):
    recipe = read_recipe(save(invokeai_metadata={**INVOKEAI, "clip_skip": 1, "loras": ["x"]}))
    assert recipe.entries["Clip skip"] == "2"
    assert "x" in recipe.entries["Lora hashes"]


@pytest.mark.parametrize(
    "texts",
    [
        {"invokeai_metadata": {**INVOKEAI, "generation_mode": "img2img", "strength": 0.6}},
        {"sd__metadata": {"image": {**SD_METADATA["image"], "type": "img2img", "strength": 0.6}}},
        {"Dream": "'a cat' -s 5 -S 1 -I init.png -f 0.6"},
        {
            "Software": "NovelAI",
            "Description": "a cat",
            "Comment": {**NOVELAI, "request_type": "Img2ImgRequest", "strength": 0.6},
        },
        {"prompt": comfyui(latent_image=["8", 0], denoise=0.6)},
    ],
)
def test_image_to_image_is_known_by_its_strength(save, texts):
    assert read_recipe(save(**texts)).entries["Denoising strength"] == "0.6"


def two_samplers():
    graph = comfyui()
    return {**graph, "12": copy.deepcopy(graph["3"])}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"prompt": two_samplers()}, "ComfyUI .* 2 KSampler nodes"),
        ({"prompt": comfyui(seed=["20", 0])}, "its seed comes out of a node"),
        ({"prompt": comfyui(positive=["8", 0])}, "a prompt comes out of a 'VAEDecode' node"),
        ({"prompt": comfyui(positive=["99", 0])}, "ComfyUI"),
        ({"prompt": "{"}, "ComfyUI"),
        ({"prompt": {"1": 5}}, "ComfyUI"),
        ({"invokeai_metadata": "[1]"}, "InvokeAI"),
        ({"invokeai_metadata": "null"}, "InvokeAI"),
        ({"sd__metadata": {"app_id": "x"}}, "InvokeAI 2"),
        ({"Dream": '"a cat'}, "InvokeAI 1"),
        ({"Software": "NovelAI", "Comment": "none"}, "NovelAI"),
        ({"parameters": "{broken"}, "stores JSON"),
    ],
)
def test_what_is_not_unambiguous_is_one_line_that_names_the_program(save, texts, words):
    with pytest.raises(UserError, match=words) as error:
        read_recipe(save(**texts))
    assert "\n" not in str(error.value) and "--seed" in str(error.value)


@pytest.mark.parametrize("texts", [{}, {"Comment": "made by hand"}, {"prompt": "a cat"}])
def test_a_picture_that_does_not_say_has_no_recipe(save, texts):
    assert read_recipe(save(**texts)) is None

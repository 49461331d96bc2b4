"""Recipes for the fields of a page: all that can be understood, and what cannot by name."""

from __future__ import annotations

import json

import pytest
from drawing import text_settings
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.pipelines.recipes import read_recipe
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.option import options_of

WEB_UI = (
    "a cat <lora:gone:0.8>\nNegative prompt: fog\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 3, Size: 512x640, "
    "Clip skip: 2, Hires upscale: 2, Denoising strength: 0.4, Model: v1-5"
)


@pytest.fixture
def save(tmp_path):
    def saver(**texts):
        chunks = PngInfo()
        for key, text in texts.items():
            chunks.add_text(key, text if isinstance(text, str) else json.dumps(text))
        Image.new("RGB", (64, 96)).save(tmp_path / "x.png", pnginfo=chunks)
        return tmp_path / "x.png"

    return saver


def test_another_programs_picture_fills_the_fields(save):
    recipe = read_recipe(save(parameters=WEB_UI))
    assert recipe.schema is Txt2ImgSettings and recipe.source.startswith("AUTOMATIC1111")
    expected = {"negative_prompt": "fog", "ddim_steps": 20, "sampler": "dpmpp_2m", "scale": 6.5}
    expected |= {"spacing": "karras", "seed": 3, "W": 512, "H": 640, "clip_skip": 2}
    expected |= {"hires": 2.0, "hires_strength": 0.4}
    assert {key: recipe.values[key] for key in expected} == expected
    assert recipe.values["prompt"].strip() == "a cat"
    said = " ".join(recipe.unknown)
    assert "gone" in said and "Hires" not in said and "similar picture" in said
    assert recipe.values.keys() <= {each.name for each in options_of(Txt2ImgSettings)} | {
        "originals",
        "on_language",
    }


def test_messages_name_the_file_and_no_folder_of_the_server(save):
    path = save(parameters=WEB_UI)
    assert not [text for text in read_recipe(path).unknown if str(path.parent) in text]


def test_an_opened_picture_is_read_like_its_file(save):
    path = save(parameters=WEB_UI)
    with Image.open(path) as image:
        image.load()
        assert read_recipe(image).values == read_recipe(path).values


@pytest.mark.parametrize(
    ("more", "schema"),
    [
        ("Denoising strength: 0.5", Img2ImgSettings),
        ("Denoising strength: 0.5, Mask blur: 4", InpaintSettings),
        ("Hires upscale: 2, Denoising strength: 0.5", Txt2ImgSettings),
    ],
)
def test_the_recipe_says_what_draws_such_a_picture(save, more, schema):
    recipe = read_recipe(save(parameters=f"a cat\nSteps: 20, Seed: 3, Size: 64x64, {more}"))
    assert recipe.schema is schema
    if schema is not Txt2ImgSettings:
        assert recipe.values["strength"] == 0.5


def test_a_recipe_without_a_seed_fills_the_other_fields_and_says_so(save):
    recipe = read_recipe(save(parameters="a cat\nSteps: 20, Sampler: Euler a, Size: 64x64"))
    assert recipe.values["ddim_steps"] == 20 and "seed" not in recipe.values
    assert any("records no seed" in text for text in recipe.unknown)


def test_our_own_picture_comes_back_as_it_was_drawn(pipeline, tmp_path):
    settings = text_settings(seed=5, n_samples=2, n_iter=1, sampler="euler_a", scale=3.0)
    first, second = pipeline.generate(settings)
    save_picture(first.pixels, tmp_path / "0.png", metadata=first.parameters)
    save_picture(second.pixels, tmp_path / "1.png", metadata=second.parameters)
    recipe = read_recipe(tmp_path / "0.png")
    assert (recipe.source, recipe.place) == ("this project", first.place)
    assert (recipe.values["sampler"], recipe.values["seed"], recipe.values["scale"]) == (
        "euler_a",
        5,
        3.0,
    )
    assert recipe.unknown == ()
    assert any("picture 2 of its run" in text for text in read_recipe(tmp_path / "1.png").unknown)


def test_our_picture_with_a_lora_that_is_gone_still_fills_the_fields(save):
    own = "Batch size: 1, Iteration: 1, Picture: 1, Pictures per iteration: 1"
    text = f"a cat\nSteps: 20, Seed: 3, Size: 64x64, {own}, LoRA: " + json.dumps(
        '["gone.safetensors"]'
    )
    recipe = read_recipe(save(parameters=text))
    assert recipe.values["ddim_steps"] == 20
    assert any("gone" in text for text in recipe.unknown)


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {"prompt": "{"},
        {"prompt": {"3": {"class_type": "KSampler"}}},
        {"invokeai_metadata": "[[[[["},
        {"parameters": "{" * 1000},
        {"Comment": "NovelAI", "Software": "NovelAI"},
    ],
)
def test_what_cannot_be_understood_is_one_line(save, texts):
    with pytest.raises(UserError) as refused:
        read_recipe(save(**texts))
    assert "\n" not in str(refused.value)


def test_controls_are_in_the_recipe_though_neither_file_nor_picture_is_here(save):
    control = json.dumps(json.dumps(["canny=edges:/gone/room.png:0.5:0:1"]))
    recipe = read_recipe(save(parameters=f"{WEB_UI}, Control: {control}, Control mode: prompt"))
    (found,) = recipe.controls
    assert (found.kind, found.file, found.image, found.mode) == (
        *("canny", "edges", "room.png"),
        "prompt",
    )
    assert not {"control", "control_mode", "image_encoder"} & recipe.values.keys()
    assert "Control" not in " ".join(recipe.unknown) and "room.png" not in " ".join(recipe.unknown)

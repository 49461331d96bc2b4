from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.pipelines import source_files
from ldm.pipelines.batches import Place
from ldm.pipelines.infotext import Source, read_picture, write_parameters
from ldm.pipelines.init_image import InitImage
from ldm.settings.generation import WATERMARKS, Img2ImgSettings, Txt2ImgSettings
from ldm.settings.samplers import SAMPLERS, SPACINGS, k_samplers, samplers_for

PLACE = Place(iteration=1, position=4, per_iteration=7, n_samples=3)


class _Fingerprint:
    short = "0123456789"


def source(**changes):
    made = Source("sd-v1-4", _Fingerprint(), "cpu", (384, 512))
    return replace(made, **changes)


@pytest.fixture
def save(tmp_path):
    """Save a picture with a text in it; return its path."""

    def saver(text, name="picture.png"):
        pixels = np.zeros((8, 8, 3), np.uint8)
        return str(save_picture(pixels, tmp_path / name, metadata=text))

    return saver


SETTINGS = Txt2ImgSettings(
    prompt="富士山, (oil:1.2)\nNegative prompt: not this",
    negative_prompt="fog, 霧\nSteps: 1, Sampler: x, Seed: 2",
    sampler="dpm_solver",
    ddim_steps=17,
    spacing="trailing",
    scale=7.123456789,
    seed=4294967295,
    precision="full",
    fixed_code=True,
    use_ema=True,
)


def test_the_text_is_automatic1111s():
    settings = Txt2ImgSettings(prompt="a cat", negative_prompt="fog", scale=7.0)
    prompt, negative, line = write_parameters(settings, source(), PLACE).split("\n")
    assert (prompt, negative) == ("a cat", "Negative prompt: fog")
    assert line.startswith(
        "Steps: 50, Sampler: DDIM, Schedule type: uniform, CFG scale: 7, Seed: 42, "
        "Size: 512x384, Model hash: 0123456789, Model: sd-v1-4"
    )
    assert "Iteration: 2, Picture: 5, Pictures per iteration: 7" in line
    assert "Eta" not in line and "EMA" not in line


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg"])
def test_what_is_written_into_a_file_is_read_back(save, name):
    path = save(write_parameters(SETTINGS, source(), PLACE), name)
    recorded = read_picture(path, Txt2ImgSettings)
    values, place = recorded.rerun({})
    assert place == PLACE
    # The prompt has Japanese letters, and was drawn as it is.
    as_drawn = {"H": 384, "W": 512, "prompt_lang": "none"}
    assert Txt2ImgSettings(**values) == replace(SETTINGS, **as_drawn)
    assert (recorded.device, recorded.model_hash) == ("cpu", "0123456789")
    assert recorded.notices == []


def test_per_image_pictures_keep_their_own_seed(save):
    run = replace(SETTINGS, seed_mode="per-image", seed=100)
    own = replace(run, seed=100 + PLACE.index)
    recorded = read_picture(save(write_parameters(own, source(), PLACE)), Txt2ImgSettings)
    assert recorded.rerun({})[0]["seed"] == 100
    values, place = recorded.rerun({"seed": 3})
    assert (values["seed"], values["n_samples"], values["n_iter"], place) == (3, 1, 1, None)


def test_flags_given_beside_it_replace_the_pictures(save):
    recorded = read_picture(save(write_parameters(SETTINGS, source(), PLACE)), Txt2ImgSettings)
    values, place = recorded.rerun({"ddim_steps": 5, "prompt": "a dog"})
    assert (values["ddim_steps"], values["prompt"], values["scale"]) == (5, "a dog", 7.123456789)
    assert place == PLACE
    values, place = recorded.rerun({"n_iter": 4})
    assert (values["n_iter"], values["n_samples"], place) == (4, 3, None)


def test_a_picture_of_another_program_gives_what_is_known_here(save):
    text = (
        "a cat\nNegative prompt: fog\nSteps: 20, Sampler: DPM adaptive, Schedule type: KL Optimal, "
        "CFG scale: 7, Seed: 1, Size: 512x768, Model hash: 6ce0161689, Model: v1-5, Clip skip: 2"
    )
    recorded = read_picture(save(text), Txt2ImgSettings)
    values, place = recorded.rerun({})
    settings = Txt2ImgSettings(**values)
    assert (settings.prompt, settings.negative_prompt) == ("a cat", "fog")
    assert (settings.ddim_steps, settings.scale, settings.seed) == (20, 7.0, 1)
    assert (settings.H, settings.W, settings.sampler) == (768, 512, "ddim")
    assert (settings.n_samples, settings.n_iter, place) == (1, 1, None)
    notices = " ".join(recorded.notices)
    assert (
        "'DPM adaptive'" in notices and "'KL Optimal'" in notices and "another program" in notices
    )


def test_what_the_user_gives_anew_is_not_remarked_on(save):
    text = "a cat\nSteps: 20, Sampler: DPM adaptive, CFG scale: 7, Seed: 1, Size: 64x64"
    assert "adaptive" not in " ".join(
        read_picture(save(text), Txt2ImgSettings, {"sampler"}).notices
    )


@pytest.mark.parametrize("style", ["{}, Schedule type: Karras", "{} Karras"])
@pytest.mark.parametrize(
    ("name", "shown"), [(name, entry.label) for name, entry in SAMPLERS.items()]
)
def test_the_web_uis_samplers_are_understood_in_both_its_styles(save, name, shown, style):
    text = f"a\nSteps: 20, Sampler: {style.format(shown)}, CFG scale: 7, Seed: 1, Size: 64x64"
    recorded = read_picture(save(text), Txt2ImgSettings)
    settings = Txt2ImgSettings(**recorded.rerun({})[0])
    settings.validate()
    name = "dpmpp_2m" if name == "dpm_solver" else name  # AUTOMATIC1111's DPM++ 2M
    assert settings.sampler == name
    # The others have no Karras spacing here: their picture is drawn all the same, and that is said.
    known = name in k_samplers()
    assert settings.spacing == ("karras" if known else "uniform")
    assert ("'Karras'" in " ".join(recorded.notices)) != known


A1111 = (
    "DPM++ 2M|DPM++ SDE|DPM++ 2M SDE|DPM++ 2M SDE Heun|DPM++ 2S a|DPM++ 3M SDE|Euler a|Euler|LMS"
)
A1111 += "|Heun|DPM2|DPM2 a|Restart|DDIM|PLMS|UniPC|LCM"


@pytest.mark.parametrize("label", A1111.split("|"))
def test_the_web_uis_sampler_is_one_here_of_the_same_name(save, label):
    text = f"a\nSteps: 20, Sampler: {label}, CFG scale: 7, Seed: 1, Size: 64x64"
    recorded = read_picture(save(text), Txt2ImgSettings)
    assert SAMPLERS[recorded.values["sampler"]].label == label
    assert label not in " ".join(recorded.notices)


@pytest.mark.parametrize(
    ("shown", "spacing"),
    [
        ("Exponential", "exponential"),
        ("Polyexponential", "exponential"),
        ("SGM Uniform", "sgm_uniform"),
        ("Beta", "beta"),
        ("Align Your Steps", "align_your_steps"),
        ("Simple", "trailing"),
        ("Normal", "uniform"),
        ("Automatic", "karras"),
    ],
)
def test_the_web_uis_schedules_are_understood(save, shown, spacing):
    text = f"a\nSteps: 20, Sampler: DPM++ 2M, Schedule type: {shown}, Seed: 1, Size: 64x64"
    recorded = read_picture(save(text), Txt2ImgSettings)
    assert (recorded.values["sampler"], recorded.values["spacing"]) == ("dpmpp_2m", spacing)
    (notice,) = recorded.notices
    assert "another program" in notice


@pytest.mark.parametrize("sampler", ["dpm_solver", "dpmpp_2m"])
@pytest.mark.parametrize("spacing", ["uniform", "trailing"])
def test_two_samplers_of_one_name_are_told_apart_in_our_pictures(save, sampler, spacing):
    settings = Txt2ImgSettings(sampler=sampler, spacing=spacing, H=8, W=8)
    text = write_parameters(settings, source(size=(8, 8)), PLACE)
    assert "Sampler: DPM++ 2M, " in text
    # Pictures of dpm_solver say no more than they did before there was another.
    assert ("Sampler form: in noise levels" in text) == (sampler == "dpmpp_2m")
    recorded = read_picture(save(text), Txt2ImgSettings)
    assert (recorded.values["sampler"], recorded.values["spacing"]) == (sampler, spacing)
    assert recorded.notices == []


@pytest.mark.parametrize("spacing", [n for n, e in SPACINGS.items() if e.offered])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_pair_of_sampler_and_spacing_is_read_back(save, name, spacing):
    if name not in samplers_for(spacing):
        return
    settings = Txt2ImgSettings(sampler=name, spacing=spacing, H=8, W=8)
    recorded = read_picture(
        save(write_parameters(settings, source(size=(8, 8)), PLACE)), Txt2ImgSettings
    )
    assert (recorded.values["sampler"], recorded.values["spacing"]) == (name, spacing)


@pytest.mark.parametrize("name", k_samplers())
def test_karras_spacing_is_written_in_the_web_uis_words_and_read_back(save, name):
    settings = Txt2ImgSettings(sampler=name, spacing="karras", H=8, W=8)
    text = write_parameters(settings, source(size=(8, 8)), PLACE)
    assert f"Sampler: {SAMPLERS[name].label}, Schedule type: Karras, " in text
    recorded = read_picture(save(text), Txt2ImgSettings)
    assert (recorded.values["sampler"], recorded.values["spacing"]) == (name, "karras")
    assert recorded.notices == []


def test_the_web_uis_hires_fix_is_not_image_to_image(save):
    text = "a\nSteps: 20, Sampler: DDIM, Seed: 1, Denoising strength: 0.7, Hires upscale: 2"
    assert read_picture(save(text), Txt2ImgSettings).values["seed"] == 1


@pytest.mark.parametrize(
    ("text", "hint"),
    [(None, "no generation parameters"), ("just words", "no seed")],
)
def test_a_picture_without_settings_is_refused(save, text, hint):
    with pytest.raises(UserError, match=hint):
        read_picture(save(text), Txt2ImgSettings)


@pytest.fixture
def init_img(tmp_path):
    path = tmp_path / "sketch.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return path


def img2img_text(init_img):
    image = InitImage.read(str(init_img))
    settings = Img2ImgSettings(strength=0.3, ddim_eta=0.25)
    return write_parameters(settings, source(init_image=image), PLACE)


def test_img2img_remembers_its_first_picture(save, init_img):
    path = save(img2img_text(init_img))
    values = read_picture(path, Img2ImgSettings).values
    assert (values["init_img"], values["strength"]) == (str(init_img), 0.3)
    assert values["ddim_eta"] == 0.25


@pytest.mark.parametrize("kind", WATERMARKS)
def test_a_picture_keeps_its_watermark_and_one_without_a_word_has_the_references(
    save, init_img, kind
):
    image = InitImage.read(str(init_img))
    settings = Img2ImgSettings(watermark=kind)
    text = write_parameters(settings, source(init_image=image), PLACE)
    assert ("Watermark" in text) is (kind != "reference")
    assert read_picture(save(text), Img2ImgSettings).values["watermark"] == kind


def test_a_moved_first_picture_is_found_beside_the_other(save, init_img, tmp_path):
    path = save(img2img_text(init_img), "out/picture.png")
    moved = init_img.rename(tmp_path / "out" / init_img.name)
    assert read_picture(path, Img2ImgSettings).values["init_img"] == str(moved)


def test_a_missing_or_changed_first_picture_is_an_error_unless_given_anew(save, init_img):
    path = save(img2img_text(init_img))
    Image.new("RGB", (8, 8), "blue").save(init_img)
    with pytest.raises(UserError, match="changed"):
        read_picture(path, Img2ImgSettings)
    init_img.unlink()
    with pytest.raises(UserError, match="which does not exist"):
        read_picture(path, Img2ImgSettings)
    assert "init_img" not in read_picture(path, Img2ImgSettings, {"init_img"}).values


def test_a_picture_is_drawn_again_by_the_program_that_drew_it(save, init_img):
    with pytest.raises(UserError, match=r"scripts/img2img\.py"):
        read_picture(save(img2img_text(init_img)), Txt2ImgSettings)
    path = save(write_parameters(SETTINGS, source(), PLACE), "text.png")
    with pytest.raises(UserError, match=r"scripts/txt2img\.py"):
        read_picture(path, Img2ImgSettings)


@pytest.mark.parametrize(
    "place",
    [
        "Batch size: 0, Iteration: 1, Picture: 1",
        "Iteration: x",
        "Picture: 9",
        f"Iteration: {10**9}",
        f"Pictures per iteration: {10**9}",
        f"Batch size: {10**9}",
        "",
    ],
)
def test_a_damaged_place_makes_an_ordinary_picture(save, place):
    whole = {"Batch size": 2, "Iteration": 1, "Picture": 1, "Pictures per iteration": 2}
    start = "a\nSteps: 5, Sampler: DDIM, Seed: 1, Size: 8x8"
    entries = "".join(f", {key}: {value}" for key, value in whole.items())
    assert read_picture(save(start + entries, "whole.png"), Txt2ImgSettings).place is not None
    text = f"{start}{entries}, {place}" if place else start
    assert read_picture(save(text), Txt2ImgSettings).place is None


@pytest.mark.parametrize("place", ["/etc/hostname", "//host/share/x.png", "\\\\host\\share\\x.png"])
def test_a_stranger_cannot_have_any_file_looked_at(save, place, monkeypatch):
    looked_at = []
    monkeypatch.setattr(source_files, "find", lambda path: looked_at.append(path) or Path(path))
    text = (
        "a cat\nSteps: 9, Sampler: DDIM, Seed: 1, Denoising strength: 0.5, Init image hash: 0, "
        f'Init image: "{place}"'
    )
    with pytest.raises(UserError, match="started from .*, which (is not named|does not exist)"):
        read_picture(save(text), Img2ImgSettings)
    assert not looked_at


def test_a_size_that_nobody_can_draw_is_named_and_not_taken(save):
    text = f"a cat\nSteps: 9, Sampler: DDIM, Seed: 1, Size: {'9' * 5000}x64"
    recorded = read_picture(save(text), Txt2ImgSettings)
    assert not {"H", "W"} & recorded.values.keys()
    assert any("Size 999" in each for each in recorded.notices)
    place = "Batch size: 1, Iteration: 1, Picture: 1, Pictures per iteration: 1"
    recorded = read_picture(save(f"{text}, {place}", "own.png"), Txt2ImgSettings)
    assert recorded.place and any("Size 999" in each for each in recorded.notices)

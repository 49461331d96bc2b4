"""What is decided about a run before torch is imported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawing import draw, pixels_of, text_settings
from omegaconf import OmegaConf
from tiny_model import CONFIG

from ldm.checkpoint.default_config import V1_CONFIG
from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.pipelines import models
from ldm.pipelines.batches import Place
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.request import LARGEST_GRID, prepare_from_flags
from ldm.settings.generation import Img2ImgSettings, Txt2ImgSettings


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository in which all models are there, each with the tiny one's configuration."""
    monkeypatch.setattr(models, "ROOT", tmp_path / "repository")
    monkeypatch.chdir(tmp_path)
    for config, weights in (
        (V1_CONFIG, models.V1_CHECKPOINTS[0]),
        (models.DEMO_CONFIG, models.DEMO_CHECKPOINT),
        (models.LAION_CONFIG, models.LAION_CHECKPOINT),
    ):
        for path in (models.ROOT / config, models.ROOT / weights):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"weights")
        OmegaConf.save(OmegaConf.create(CONFIG), models.ROOT / config)
    return models.ROOT


@pytest.mark.parametrize(
    ("model", "weights"), [("demo", models.DEMO_CHECKPOINT), ("other", models.V1_CHECKPOINTS[0])]
)
def test_a_picture_of_the_demo_model_is_drawn_again_by_it_though_sd_v1_is_there(
    root, model, weights
):
    text = f"a cat\nSteps: 5, Sampler: DDIM, CFG scale: 5, Seed: 3, Size: 16x16, Model: {model}"
    save_picture(np.zeros((16, 16, 3), np.uint8), "a.png", metadata=text)
    request = prepare_from_flags(Txt2ImgSettings, {"from_image": "a.png"})
    assert request.choice.ckpt_path == root / weights
    assert (request.settings.seed, request.settings.prompt) == (3, "a cat")
    own = str(root / models.LAION_CHECKPOINT)
    given = {"from_image": "a.png", "ckpt": own}
    assert str(prepare_from_flags(Txt2ImgSettings, given).choice.ckpt_path) == own


SUITS = {"scale": 3, "sampler": "dpmpp_2m", "spacing": "karras", "steps": 20}


@pytest.fixture
def suited_root(root):
    """The same, but the model has settings that suit it."""
    OmegaConf.save(OmegaConf.create({**CONFIG, "sampling": SUITS}), root / V1_CONFIG)
    return root


def walk_of(settings):
    return settings.scale, settings.sampler, settings.spacing, settings.ddim_steps


def test_what_suits_a_model_is_taken_and_a_flag_is_still_the_last_word(suited_root):
    request = prepare_from_flags(Txt2ImgSettings, {})
    assert walk_of(request.settings) == (3.0, "dpmpp_2m", "karras", 20)
    assert request.suited == {
        **{"scale": 3.0, "ddim_steps": 20, "sampler": "dpmpp_2m", "spacing": "karras"}
    }
    request = prepare_from_flags(Txt2ImgSettings, {"scale": 7.5, "sampler": "plms"})
    assert walk_of(request.settings) == (7.5, "plms", "uniform", 50)
    assert request.suited == {}


def test_a_model_that_names_nothing_is_drawn_with_the_references_numbers(root):
    request = prepare_from_flags(Txt2ImgSettings, {})
    assert walk_of(request.settings) == (7.5, "ddim", "uniform", 50) and not request.suited


def test_a_recorded_picture_is_drawn_as_it_was_whatever_suits_its_model_now(suited_root):
    request = prepare_from_flags(Txt2ImgSettings, recorded())
    assert walk_of(request.settings) == (5.0, "ddim", "uniform", 5)
    own = {"Batch size": 1, "Iteration": 1, "Picture": 1, "Pictures per iteration": 1}
    Path("b.png").unlink()
    unsaid = prepare_from_flags(Txt2ImgSettings, recorded(**{"CFG scale": "?"}))
    assert unsaid.settings.scale == 7.5 and not unsaid.suited
    Path("b.png").unlink()
    request = prepare_from_flags(Txt2ImgSettings, recorded(**own))
    assert walk_of(request.settings) == (5.0, "ddim", "uniform", 5) and request.place


def test_python_takes_settings_as_they_are_and_makes_those_that_suit_on_request(pipeline):
    own = {"scale": 3.0, "ddim_steps": 20}
    suited = Pipeline(pipeline.model, replace(pipeline.choice, sampling=own))
    assert suited.prepare(text_settings(scale=7.5)).settings.scale == 7.5
    settings = suited.settings(prompt="a cat", ddim_steps=4)
    assert (settings.scale, settings.ddim_steps, settings.prompt) == (3.0, 4, "a cat")
    assert suited.settings(Img2ImgSettings, strength=0.5).scale == 3.0
    assert pipeline.settings(prompt="a cat") == Txt2ImgSettings(prompt="a cat")


def recorded(**entries):
    """Save a picture of another program, and return what a command line with it asks for."""
    values = {"Steps": 5, "Sampler": "DDIM", "CFG scale": 5, "Seed": 3, "Size": "16x16", **entries}
    text = ", ".join(f"{key}: {value}" for key, value in values.items())
    save_picture(np.zeros((16, 16, 3), np.uint8), "b.png", metadata=f"a cat\n{text}")
    return {"from_image": "b.png"}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"Steps": 5000}, "records --ddim_steps 5000"),
        ({"Size": f"{10**9}x{10**9}"}, "records --H 1000000000"),
        ({"Sampler": "PLMS", "Eta": 1, "Batch size": 1, "Iteration": 1, "Picture": 1}, None),
    ],
)
def test_what_a_picture_records_is_not_blamed_on_a_flag_that_nobody_gave(root, entries, words):
    if words is None:
        assert prepare_from_flags(Txt2ImgSettings, recorded(**entries)).settings.ddim_eta == 0
        return
    with pytest.raises(UserError, match=f"--from-image b.png {words}") as error:
        prepare_from_flags(Txt2ImgSettings, recorded(**entries))
    assert "was given" not in str(error.value)


def test_a_flag_that_was_given_beside_a_picture_is_blamed_as_ever(root):
    with pytest.raises(UserError, match="^--ddim_steps 5000 was given"):
        prepare_from_flags(Txt2ImgSettings, {**recorded(Steps=4000), "ddim_steps": 5000})


@pytest.mark.parametrize(("size", "drawn"), [("17x30", "16x32"), ("1x1", "4x4"), ("16x8", "16x8")])
def test_a_size_that_the_model_cannot_draw_is_rounded_and_that_is_told(root, size, drawn):
    request = prepare_from_flags(Txt2ImgSettings, recorded(Size=size))
    settings = request.settings
    assert f"{settings.W}x{settings.H}" == drawn
    told = f"the recorded size {size}" in " ".join(request.notices)
    assert told is (size != drawn)


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"Model": "another"}, True),
        ({"Model": "another", "Model hash": "0123456789"}, True),
        ({"Model": "stable-diffusion-v1"}, False),
        ({"Model": "stable-diffusion-v1.safetensors"}, False),
        ({}, False),
    ],
)
def test_another_model_is_told_of_by_its_hash_or_else_by_its_name(root, entries, told):
    notice = prepare_from_flags(Txt2ImgSettings, recorded(**entries)).model_notice()
    assert (notice is not None) is told
    assert notice is None or "another" in notice


@pytest.mark.parametrize(
    ("given", "outdir"), [({}, models.LAION_OUTDIR), ({"outdir": "mine"}, "mine")]
)
def test_laion400m_names_model_and_folder(root, given, outdir):
    request = prepare_from_flags(Txt2ImgSettings, {"laion400m": True, **given})
    assert request.choice.ckpt_path == root / models.LAION_CHECKPOINT
    assert request.settings.outdir == outdir


@pytest.mark.parametrize(("pictures", "made"), [(LARGEST_GRID, True), (LARGEST_GRID + 1, False)])
def test_no_grid_is_made_of_more_pictures_than_fit_one(root, pictures, made):
    request = prepare_from_flags(Txt2ImgSettings, {"n_iter": pictures, "n_samples": 1})
    assert request.wants_grid is made
    assert any("no grid" in text for text in request.notices) is not made
    given = {"n_iter": pictures, "n_samples": 1, "skip_grid": True}
    quiet = prepare_from_flags(Txt2ImgSettings, given)
    assert not quiet.wants_grid and quiet.notices == []


def test_a_request_is_made_once_and_drawn_as_its_settings_are(pipeline):
    settings = text_settings(seed_mode="per-image")
    request = pipeline.prepare(settings, prompts=["a cat", "a dog"])
    assert (request.size, request.rows, request.pictures) == ((16, 16), 2, 4)
    assert [batch.prompts for batch in request.batches] == 2 * [("a cat", "a dog")]
    drawn = pixels_of(draw(pipeline, request)[0])
    assert np.array_equal(drawn, pixels_of(draw(pipeline, settings, prompts=["a cat", "a dog"])[0]))
    assert np.array_equal(drawn, pixels_of(draw(pipeline, request)[0]))


def test_a_request_is_complete_and_for_one_model(pipeline):
    request = pipeline.prepare(text_settings())
    with pytest.raises(TypeError, match="prompts"):
        pipeline.generate(request, prompts=["a dog"])
    other = Pipeline(pipeline.model, replace(pipeline.choice))
    with pytest.raises(ValueError, match="prepare the request with this"):
        other.generate(request)


def test_what_is_wrong_with_settings_is_said_before_the_first_picture_is_asked_for(pipeline):
    with pytest.raises(UserError, match="--H 18"):
        pipeline.generate(text_settings(H=18))


def test_a_place_of_a_run_asks_for_no_file_of_prompts(pipeline):
    place = Place(iteration=0, position=1, per_iteration=2, n_samples=2)
    settings = text_settings(from_file="gone.txt")
    (again,), _ = draw(pipeline, settings, place=place)
    pictures, _ = draw(pipeline, text_settings(n_iter=1))
    assert np.array_equal(again.pixels, pictures[1].pixels)

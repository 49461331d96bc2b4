"""What is decided about a run before torch is imported."""

from __future__ import annotations

from dataclasses import replace

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
from ldm.settings.generation import Txt2ImgSettings


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

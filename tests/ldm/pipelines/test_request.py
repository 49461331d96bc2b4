"""What is decided about a run before torch is imported."""

from __future__ import annotations

import numpy as np
import pytest
from omegaconf import OmegaConf
from tiny_model import CONFIG

from ldm.checkpoint.default_config import V1_CONFIG
from ldm.images.io import save_picture
from ldm.pipelines import models
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

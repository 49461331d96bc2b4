"""What a page draws is checked against time first, shown while it is drawn, and stopped at once."""

from __future__ import annotations

import base64
import io
import threading
from dataclasses import replace

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from ldm.errors import UserError
from ldm.pipelines.cancelling import Cancelled
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from optimizedSD.web import drawing
from optimizedSD.web.drawing import MOST_SEEN, draw, preview


def settings(folder, **changes):
    given = {"prompt": "a cat", "seed": 7, "ddim_steps": 4, "n_samples": 2, "n_iter": 1, **changes}
    return LowMemoryTxt2ImgSettings(outdir=str(folder), **given)


def opened(address):
    kind, data = address.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.fixture
def seen(pipeline, monkeypatch):
    """The pipeline of a model whose YAML has a preview, which is shown after each step."""
    monkeypatch.setattr(drawing, "EVERY", 0.0)
    return with_entry(pipeline, monkeypatch, {"factors": [[0.1, 0.2, 0.3]] * 4})


@pytest.fixture
def unseen(pipeline, monkeypatch):
    """The pipeline of a model that nobody knows the colours of."""
    monkeypatch.setattr("ldm.pipelines.previewing.V1_SCALE", 9.0)
    return with_entry(pipeline, monkeypatch, None)


def with_entry(pipeline, monkeypatch, preview):
    config = OmegaConf.merge(pipeline.choice.config, {"preview": preview})
    monkeypatch.setattr(pipeline, "choice", replace(pipeline.choice, config=config))
    return pipeline


def run(pipeline, wanted, see=lambda address: None, stop=None, seconds=900.0):
    rest = {"seconds": seconds, "stop": stop or threading.Event(), "see": see}
    return draw(pipeline, pipeline.prepare(wanted), observer=lambda event: None, **rest)


def test_a_run_is_seen_while_it_is_drawn(seen, tmp_path):
    previews = []
    pictures = list(run(seen, settings(tmp_path), previews.append))
    assert len(pictures) == 2 and len(previews) >= 3
    height, width, _ = opened(previews[0]).shape
    assert width == 2 * height


def test_a_model_without_a_preview_is_drawn_without_a_word_about_it(unseen, tmp_path):
    said, previews = [], []
    wanted, stop = unseen.prepare(settings(tmp_path)), threading.Event()
    list(draw(unseen, wanted, seconds=9e9, stop=stop, see=previews.append, observer=said.append))
    assert not previews
    assert not [each for each in said if "preview" in getattr(each, "text", "").lower()]


def test_a_preview_is_of_a_few_pictures_beside_each_other():
    pixels = np.random.default_rng(0).integers(0, 256, (MOST_SEEN + 2, 3, 5, 3), dtype=np.uint8)
    assert np.array_equal(opened(preview(pixels)), np.concatenate(pixels[:MOST_SEEN], axis=1))


def test_a_run_that_is_stopped_ends_in_the_middle_of_it(pipeline, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        next(run(pipeline, settings(tmp_path), stop=stop))


def test_a_run_that_cannot_be_drawn_in_time_is_refused_before_it_begins(pipeline, tmp_path):
    wanted = settings(tmp_path, H=256, W=256, ddim_steps=1000, n_iter=1000)
    with pytest.raises(UserError, match="at the very least; expected at most"):
        run(pipeline, wanted, seconds=1e-6)

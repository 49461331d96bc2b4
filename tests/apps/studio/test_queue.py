"""The queue: a job draws, saves and tells how far it is, in the visitor's language; it can stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from apps.studio.queue import Drawing
from ldm.errors import UserError
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings


@pytest.fixture
def settings(tmp_path):
    return LowMemoryTxt2ImgSettings(
        prompt="a cat", sampler="ddim", ddim_steps=4, n_samples=2, seed=7, outdir=str(tmp_path)
    )


def test_a_drawing_is_saved_and_told_step_by_step(queue, settings):
    states = list(queue.draw("me", lambda: Drawing(settings)))
    last = states[-1]
    assert last.over
    assert last.fraction == 1.0
    assert last.status.startswith("2 pictures in ")
    assert [Image.open(saved.path).size for saved in last.pictures] == [(16, 16)] * 2
    assert [saved.seed for saved in last.pictures] == [7, 8]
    assert any(state.preview.startswith("data:image/png;base64,") for state in states)
    assert not last.preview


def test_the_picture_is_the_one_that_the_program_draws(queue, settings, pipeline):
    *_, last = queue.draw("me", lambda: Drawing(settings))
    drawn = [picture.pixels for picture in pipeline.generate(settings)]
    for saved, pixels in zip(last.pictures, drawn, strict=True):
        assert np.array_equal(np.asarray(Image.open(saved.path)), pixels)


def test_it_is_told_in_the_visitors_language(queue, settings):
    *_, last = queue.draw("me", lambda: Drawing(settings, "ja"))
    assert last.status.startswith("2 枚、")


def test_who_waits_is_told_the_place(queue, settings, blocked):
    states = queue.draw("me", lambda: Drawing(settings))
    assert (
        next(states).status == "Number 2 in line: 1 run is before yours. Cancel gives the place up."
    )
    blocked.set()
    *_, last = states
    assert len(last.pictures) == 2


def test_who_waits_can_cancel(queue, settings, blocked):
    states = queue.draw("me", lambda: Drawing(settings))
    next(states)
    queue.stop("me")
    *_, last = states
    assert last.over
    assert last.status.startswith("Stopped after ")
    assert not last.pictures
    blocked.set()


def test_one_visitor_has_one_job_at_a_time(queue, settings, blocked):
    with pytest.raises(UserError, match="has not ended"):
        list(queue.draw("other", lambda: Drawing(settings)))
    blocked.set()


def test_visitors_get_their_own_pictures(queue, settings):
    for seed, visitor in ((1, "one"), (2, "two")):
        wanted = replace(settings, seed=seed, n_samples=1)
        *_, last = queue.draw(visitor, lambda wanted=wanted: Drawing(wanted))
        assert [saved.seed for saved in last.pictures] == [seed]


def test_a_log_that_cannot_be_written_costs_no_picture(queue, settings, monkeypatch):
    def log(_):
        raise UserError("the disk is full")

    monkeypatch.setattr(queue, "log_run", log)
    *_, last = queue.draw("me", lambda: Drawing(settings))
    assert len(last.pictures) == 2
    assert "the disk is full" in [notice.text for notice in last.notices]

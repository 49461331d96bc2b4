"""A run that does not fit is refused or drawn in parts, from the random numbers of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from drawing import draw, image_settings, pixels_of, text_settings

from ldm.errors import UserError
from ldm.pipelines import room, run
from ldm.pipelines.batches import plan
from ldm.pipelines.progress import Notice, Progress
from ldm.pipelines.room import check_room
from ldm.settings.generation import Txt2ImgSettings

ROWS = {"n_samples": 5, "n_iter": 2}


@pytest.fixture
def in_pairs(monkeypatch):
    """Let runs draw two rows at a time."""
    monkeypatch.setattr(run.Run, "_rows_at_once", lambda self: 2)


def test_a_batch_is_cut_into_parts_that_are_the_whole():
    (batch,) = plan(Txt2ImgSettings(n_samples=5, n_iter=1), ["a", "b", "c", "d", "e"])
    parts = list(batch.parts(2))
    assert [part.prompts for part in parts] == [("a", "b"), ("c", "d"), ("e",)]
    assert [part.within for part in parts] == [(0, 5), (2, 5), (4, 5)]
    assert sum((part.places for part in parts), ()) == batch.places
    assert [part.kept for part in parts] == [(0, 1), (0, 1), (0,)]
    assert list(batch.parts(5)) == [batch]


@pytest.mark.parametrize("seed_mode", ["compvis", "per-image"])
@pytest.mark.parametrize("changes", [{}, {"ddim_eta": 1.0}, {"fixed_code": True}])
@pytest.mark.parametrize("start", ["text", "picture"])
def test_pictures_drawn_in_parts_are_those_of_the_whole_batch(
    pipeline, init_img, monkeypatch, seed_mode, changes, start
):
    given = {**ROWS, **changes, "seed_mode": seed_mode}
    settings = text_settings(**given) if start == "text" else image_settings(init_img, **given)
    whole, told = draw(pipeline, settings)
    monkeypatch.setattr(run.Run, "_rows_at_once", lambda self: 2)
    parts, events = draw(pipeline, settings)
    assert np.abs(pixels_of(whole).astype(int) - pixels_of(parts)).max() <= 1
    assert [each.parameters for each in whole] == [each.parameters for each in parts]
    ends = [[e for e in each if isinstance(e, Progress)][-1] for each in (told, events)]
    assert ends[0] == ends[1]


def test_one_picture_of_a_run_in_parts_is_drawn_again_by_its_place(pipeline, in_pairs):
    settings = text_settings(**ROWS, ddim_eta=0.5)
    pictures, _ = draw(pipeline, settings)
    for chosen in (pictures[3], pictures[9]):
        again, _ = draw(pipeline, settings, place=chosen.place)
        assert np.array_equal(again[0].plain, chosen.plain)


def needed(pipeline, **changes):
    return check_room(pipeline.prepare(text_settings(**changes)), pipeline).needed


def test_more_pictures_and_larger_ones_take_more(pipeline):
    one = needed(pipeline, n_samples=1)
    assert needed(pipeline, n_samples=6) == pytest.approx(6 * one, rel=1e-6)
    assert needed(pipeline, n_samples=1, H=32, W=32) == pytest.approx(4 * one, rel=0.01)
    assert needed(pipeline, n_samples=1, scale=1.0) <= one


def test_a_batch_that_does_not_fit_is_drawn_in_parts_and_said_to_be(pipeline, monkeypatch):
    settings = text_settings(**ROWS)
    each = needed(pipeline, n_samples=1)
    monkeypatch.setattr(room, "free_memory", lambda: int(2.5 * room.MARGIN * each))
    monkeypatch.setattr(run, "LITTLE", 0)
    pictures, events = draw(pipeline, settings)
    assert len(pictures) == 10
    said = [event.text for event in events if isinstance(event, Notice)]
    assert any("5 pictures of 16x16 at a time would take" in text for text in said)
    assert any("2 are drawn at a time" in text for text in said)


def test_a_picture_that_does_not_fit_is_refused_before_anything_is_drawn(pipeline, monkeypatch):
    each = needed(pipeline, n_samples=1)
    monkeypatch.setattr(room, "free_memory", lambda: int(0.7 * each))
    monkeypatch.setattr(run, "LITTLE", 0)
    with pytest.raises(UserError, match="a picture of 16x16 takes about .* are free"):
        draw(pipeline, text_settings())


def test_where_nobody_tells_what_is_free_all_is_drawn(pipeline, monkeypatch):
    monkeypatch.setattr(room, "free_memory", lambda: None)
    assert check_room(pipeline.prepare(text_settings(**ROWS)), pipeline).rows == 5


def test_a_batch_whose_steps_nobody_could_stop_is_drawn_in_parts(pipeline, monkeypatch):
    monkeypatch.setattr(room, "LONGEST", 1.0)
    found = check_room(pipeline.prepare(text_settings(**ROWS)), pipeline)
    assert found.rows == 1
    assert "nobody could stop it" in found.notice


def test_time_that_a_run_cannot_keep_is_refused_and_time_that_it_can_is_not(pipeline, monkeypatch):
    monkeypatch.setattr(room, "_speed", lambda threads: 1e9)
    request = pipeline.prepare(text_settings(n_iter=1000, n_samples=5))
    least = check_room(request, pipeline, seconds=float("inf")).seconds
    assert least > 1.0
    with pytest.raises(UserError, match="5000 pictures of 4 steps .* at the very least"):
        check_room(request, pipeline, seconds=0.9 * least)
    assert check_room(request, pipeline, seconds=1.1 * least).seconds == least


def test_a_processors_speed_is_measured():
    assert 1e8 < room._speed(1) < 1e15

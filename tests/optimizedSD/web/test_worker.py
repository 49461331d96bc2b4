"""The worker draws for visitors: saved, told as it goes, stopped when asked, one at a time."""

from __future__ import annotations

import csv
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ldm.errors import UserError
from ldm.images.metadata import read_parameters
from ldm.programs.run_log import RunLog, row_of
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from optimizedSD.web.pictures import mask_of, plain_picture
from optimizedSD.web.worker import Request, Worker


def wanted(folder, **changes):
    base = LowMemoryTxt2ImgSettings(
        prompt="a cat", ddim_steps=4, n_samples=2, seed=7, outdir=str(folder)
    )
    return replace(base, **changes)


@pytest.fixture
def worker(pipeline):
    return Worker(pipeline, note=lambda settings: None)


def draw(worker, settings, visitor="someone", **rest):
    return list(worker.draw(visitor, lambda: Request(settings, **rest)))


def test_pictures_are_saved_under_prompt_and_seed_with_their_parameters(worker, tmp_path):
    last = draw(worker, wanted(tmp_path))[-1]
    names = [saved.path.relative_to(tmp_path).as_posix() for saved in last.pictures]
    assert names == ["a_cat/seed_7_00000.png", "a_cat/seed_8_00001.png"]
    for saved in last.pictures:
        assert read_parameters(saved.path) == saved.parameters
    assert "Seed: 8" in last.pictures[1].parameters


def test_pictures_are_the_pipelines_own(worker, pipeline, tmp_path):
    settings = wanted(tmp_path)
    expected = list(pipeline.generate(settings))
    last = draw(worker, settings)[-1]
    for saved, picture in zip(last.pictures, expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(saved.path)), picture.pixels)


def test_the_run_is_told_as_it_goes_and_ends_with_a_count(worker, tmp_path):
    views = draw(worker, wanted(tmp_path, n_iter=3))
    shares = [view.share for view in views]
    counts = [len(view.pictures) for view in views]
    assert shares == sorted(shares)
    assert counts == sorted(counts)
    assert (shares[-1], counts[-1]) == (1.0, 6)
    assert views[-1].status.startswith("6 pictures in ")
    assert views[-1].seed == 7


def test_notices_and_logged_warnings_are_shown_once_each(worker, tmp_path):
    last = draw(worker, wanted(tmp_path, n_iter=2, negative_prompt="fog", scale=1.0))[-1]
    texts = [notice.text for notice in last.notices]
    assert len(set(texts)) == len(texts)
    assert any("has no effect" in notice.text and notice.warning for notice in last.notices)


def test_a_picture_and_a_mask_are_passed_on(worker, tmp_path, painted, picture):
    from ldm.settings.inpaint import LowMemoryInpaintSettings

    settings = LowMemoryInpaintSettings(
        prompt="a cat", ddim_steps=4, n_samples=1, seed=7, outdir=str(tmp_path)
    )
    mask = mask_of(painted, None)
    last = draw(worker, settings, image=plain_picture(painted), mask=mask)[-1]
    pixels = np.asarray(Image.open(last.pictures[0].path))
    assert np.array_equal(pixels[~mask.marked], np.asarray(picture)[~mask.marked])
    assert not np.array_equal(pixels, picture)


def test_a_visitor_stops_his_own_run_and_keeps_what_is_finished(worker, tmp_path):
    worker.announce("me")
    endless = wanted(tmp_path, n_iter=500)
    for view in worker.draw("me", lambda: Request(endless)):
        worker.stop("someone else")
        if view.pictures:
            worker.stop("me")
    assert view.status.startswith("Stopped after ")
    assert f"{len(view.pictures)} pictures kept" in view.status
    assert len(list(tmp_path.rglob("*.png"))) == len(view.pictures) < 1000


def test_a_run_may_be_stopped_before_it_began(worker, tmp_path):
    worker.announce("me")
    worker.stop("me")
    assert draw(worker, wanted(tmp_path), "me")[-1].status.endswith("nothing was finished.")
    assert draw(worker, wanted(tmp_path), "me")[-1].pictures, "the stop was for one run"


def test_a_visitor_who_goes_away_frees_the_model(worker, tmp_path):
    views = worker.draw("me", lambda: Request(wanted(tmp_path / "a", n_iter=500)))
    next(views)
    views.close()
    assert len(draw(worker, wanted(tmp_path / "b"), "other")[-1].pictures) == 2


def test_two_visitors_are_served_one_after_the_other(worker, tmp_path, monkeypatch):
    inside, most = [], []
    generate = worker.pipeline.generate

    def watched(*given, **rest):
        inside.append(1)
        most.append(len(inside))
        try:
            yield from generate(*given, **rest)
        finally:
            inside.pop()

    monkeypatch.setattr(worker.pipeline, "generate", watched)
    visitors = [
        threading.Thread(target=draw, args=(worker, wanted(tmp_path / name), name))
        for name in ("a", "b", "c")
    ]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert most == [1, 1, 1]
    assert len(list(tmp_path.rglob("*.png"))) == 6


def test_every_run_is_a_row_of_the_table(pipeline, tmp_path):
    log = RunLog("txt2img_gradio_logs.csv", tmp_path / "logs")
    worker = Worker(pipeline, note=lambda settings: log.add(row_of(settings, device="cpu")))
    for seed in (1, 2):
        draw(worker, wanted(tmp_path, seed=seed))
    with open(log.path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["prompt"], row["seed"]) for row in rows] == [("a cat", "1"), ("a cat", "2")]


def test_a_table_that_cannot_be_written_is_a_warning(pipeline, tmp_path):
    def note(settings):
        raise UserError("the run cannot be noted")

    last = draw(Worker(pipeline, note), wanted(tmp_path))[-1]
    assert len(last.pictures) == 2
    assert any(n.warning and n.text == "the run cannot be noted" for n in last.notices)


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"H": 15}, "expected a multiple of 4"), ({"ddim_steps": 5000}, "the model has 1000 steps")],
)
def test_what_cannot_be_drawn_is_told_and_the_next_run_goes_on(worker, tmp_path, changes, told):
    with pytest.raises(UserError, match=told):
        draw(worker, wanted(tmp_path, **changes))
    assert len(draw(worker, wanted(tmp_path))[-1].pictures) == 2


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_drawn(worker, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot be written to"):
        draw(worker, wanted(tmp_path / "file"))


def test_a_mistake_in_the_request_leaves_no_trace(worker):
    def mistaken():
        raise UserError("a mistake")

    worker.announce("me")
    with pytest.raises(UserError, match="a mistake"):
        list(worker.draw("me", mistaken))
    assert not worker._stops

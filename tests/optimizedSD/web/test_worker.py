"""The worker saves what it draws, reports as it goes, stops when asked, does one run at a time."""

from __future__ import annotations

import csv
import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ldm.errors import UserError
from ldm.images.metadata import read_parameters
from ldm.pipelines import adapter_files
from ldm.programs.run_log import RunLog, row_of
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from optimizedSD.web.drawing import Drawing
from optimizedSD.web.limits import Limits
from optimizedSD.web.pictures import mask_of, plain_picture
from optimizedSD.web.worker import Worker


def settings_for(folder, **changes):
    base = LowMemoryTxt2ImgSettings(
        prompt="a cat", ddim_steps=4, n_samples=2, seed=7, outdir=str(folder)
    )
    return replace(base, **changes)


@pytest.fixture
def worker(pipeline):
    worker = Worker(pipeline, log_run=lambda settings: None)
    yield worker
    assert worker.close(30.0)  # the tests share the model


def draw(worker, settings, visitor="someone", **rest):
    return list(worker.draw(visitor, lambda: Drawing(settings, **rest)))


def test_pictures_are_saved_under_prompt_and_seed_with_their_parameters(worker, tmp_path):
    last = draw(worker, settings_for(tmp_path))[-1]
    names = [saved.path.relative_to(tmp_path).as_posix() for saved in last.pictures]
    assert names == ["a_cat/seed_7_00000.png", "a_cat/seed_8_00001.png"]
    for saved in last.pictures:
        assert read_parameters(saved.path) == saved.parameters
    assert "Seed: 8" in last.pictures[1].parameters


def test_pictures_are_the_pipelines_own(worker, pipeline, tmp_path):
    settings = settings_for(tmp_path)
    expected = list(pipeline.generate(settings))
    last = draw(worker, settings)[-1]
    for saved, picture in zip(last.pictures, expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(saved.path)), picture.pixels)


def test_a_run_reports_as_it_goes_and_ends_with_a_count(worker, tmp_path):
    states = draw(worker, settings_for(tmp_path, n_iter=3))
    fractions = [state.fraction for state in states]
    counts = [len(state.pictures) for state in states]
    assert fractions == sorted(fractions)
    assert counts == sorted(counts)
    assert (fractions[-1], counts[-1]) == (1.0, 6)
    assert states[-1].status.startswith("6 pictures in ")
    assert states[-1].seed == 7


def test_a_run_is_told_in_the_visitors_language(worker, tmp_path):
    assert draw(worker, settings_for(tmp_path), language="ja")[-1].status.startswith("2 枚、")


def test_notices_and_logged_warnings_are_shown_once_each(worker, tmp_path):
    last = draw(worker, settings_for(tmp_path, n_iter=2, negative_prompt="fog", scale=1.0))[-1]
    texts = [notice.text for notice in last.notices]
    assert len(set(texts)) == len(texts)
    assert any("has no effect" in notice.text and notice.warning for notice in last.notices)


def test_an_init_image_and_a_mask_are_passed_on(worker, tmp_path, painted, picture):
    from ldm.settings.inpaint import LowMemoryInpaintSettings

    settings = LowMemoryInpaintSettings(
        prompt="a cat", ddim_steps=4, n_samples=1, seed=7, outdir=str(tmp_path)
    )
    mask = mask_of(painted, None)
    last = draw(worker, settings, image=plain_picture(painted), mask=mask)[-1]
    pixels = np.asarray(Image.open(last.pictures[0].path))
    assert np.array_equal(pixels[~mask.marked], np.asarray(picture)[~mask.marked])
    assert not np.array_equal(pixels, picture)


def test_a_visitor_stops_only_their_own_run_and_keeps_its_finished_pictures(worker, tmp_path):
    worker.register("me")
    endless = settings_for(tmp_path, n_iter=500)
    for state in worker.draw("me", lambda: Drawing(endless)):
        worker.stop("someone else")
        if state.pictures:
            worker.stop("me")
    assert state.status.startswith("Stopped after ")
    assert f"{len(state.pictures)} pictures kept" in state.status
    assert len(list(tmp_path.rglob("*.png"))) == len(state.pictures) < 1000


def test_a_run_can_be_stopped_before_it_begins(worker, tmp_path):
    worker.register("me")
    worker.stop("me")
    assert draw(worker, settings_for(tmp_path), "me")[-1].status.endswith("nothing was finished.")
    assert draw(worker, settings_for(tmp_path), "me")[-1].pictures, "the stop was for one run"


def test_a_run_stopped_while_it_waits_for_another_is_not_logged(worker, tmp_path):
    logged = []
    worker.log_run = logged.append
    place = worker.line.enter("another visitor")
    states = worker.draw("me", lambda: Drawing(settings_for(tmp_path)))
    first = next(states).status
    worker.stop("me")
    last = list(states)[-1].status
    worker.line.leave(place)
    assert first == "Number 2 in line: 1 run is before yours. Cancel gives the place up."
    assert last.endswith("nothing was finished.")
    assert not logged


def test_a_visitor_who_leaves_frees_the_model(worker, tmp_path):
    states = worker.draw("me", lambda: Drawing(settings_for(tmp_path / "a", n_iter=500)))
    next(states)
    states.close()
    assert len(draw(worker, settings_for(tmp_path / "b"), "other")[-1].pictures) == 2


def test_one_visitor_has_one_run_and_an_address_its_share(worker, tmp_path):
    worker.limit(Limits(waiting=8))
    one = worker.draw("me", lambda: Drawing(settings_for(tmp_path, n_iter=500)), "10.0.0.1")
    next(one)
    with pytest.raises(UserError, match="the last run has not ended"):
        next(worker.draw("me", lambda: Drawing(settings_for(tmp_path)), "10.0.0.1"))
    waiting = [
        worker.draw(name, lambda: Drawing(settings_for(tmp_path)), "10.0.0.1") for name in "ab"
    ]
    for run in waiting:
        assert next(run).status.startswith("Number ")
    with pytest.raises(UserError, match="3 runs from your address"):
        next(worker.draw("c", lambda: Drawing(settings_for(tmp_path)), "10.0.0.1"))
    other = worker.draw("other", lambda: Drawing(settings_for(tmp_path / "other")), "10.0.0.2")
    assert (
        next(other).status
        == "Number 4 in line: 3 runs are before yours. Cancel gives the place up."
    )
    for run in (one, *waiting):
        run.close()
    assert list(other)[-1].status.startswith("2 pictures in ")


def test_a_full_line_refuses_the_next_run_and_is_free_again_later(worker, tmp_path):
    worker.limit(Limits(waiting=0))
    run = worker.draw("me", lambda: Drawing(settings_for(tmp_path, n_iter=500)))
    next(run)
    with pytest.raises(UserError, match="0 runs wait already"):
        draw(worker, settings_for(tmp_path), "other")
    run.close()
    assert worker.line.empties(30.0)
    assert len(draw(worker, settings_for(tmp_path), "other")[-1].pictures) == 2


def test_a_run_that_takes_longer_than_was_thought_is_stopped(worker, tmp_path, monkeypatch):
    monkeypatch.setattr("ldm.pipelines.room.check_room", lambda *given, **rest: None)
    worker.limit(Limits(seconds=0.5))
    last = draw(worker, settings_for(tmp_path, n_iter=200))[-1]
    assert last.over
    assert "s, the longest that a run may take on this page: " in last.status
    assert len(list(tmp_path.rglob("*.png"))) == len(last.pictures) < 400
    worker.limit(Limits())
    assert len(draw(worker, settings_for(tmp_path))[-1].pictures) == 2


def test_time_in_the_line_does_not_count(worker, tmp_path):
    worker.limit(Limits(seconds=30.0))
    place = worker.line.enter("another visitor")
    states = worker.draw("me", lambda: Drawing(settings_for(tmp_path)))
    first = next(states)
    worker.line.leave(place)
    assert list(states)[-1].began > first.began


def test_a_stop_is_heeded_within_two_seconds_while_it_draws_and_while_it_waits(worker, tmp_path):
    drawn = worker.draw("me", lambda: Drawing(settings_for(tmp_path, n_iter=5000)), "a")
    waiting = worker.draw("you", lambda: Drawing(settings_for(tmp_path)), "b")
    next(drawn), next(waiting)
    for visitor, run in (("you", waiting), ("me", drawn)):
        began = time.monotonic()
        worker.stop(visitor)
        assert list(run)[-1].status.startswith("Stopped")
        assert time.monotonic() - began < 2.0


def test_one_visitors_error_does_not_harm_the_next(worker, tmp_path, monkeypatch):
    generate = worker.pipeline.generate

    def broken(*_, **__):
        raise MemoryError("no memory")

    monkeypatch.setattr(worker.pipeline, "generate", broken)
    with pytest.raises(MemoryError):
        draw(worker, settings_for(tmp_path))
    monkeypatch.setattr(worker.pipeline, "generate", generate)
    assert len(draw(worker, settings_for(tmp_path), "other")[-1].pictures) == 2


@pytest.mark.parametrize(
    "name", ["../secret", "{folder}/secret.pt", "models/../../secret", "//a/b"]
)
def test_a_visitors_tag_leads_to_no_file_outside_of_its_folder(name, worker, tmp_path, monkeypatch):
    (tmp_path / "models/lora").mkdir(parents=True)
    (tmp_path / "secret.pt").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path / "models")
    monkeypatch.setattr(adapter_files, "ROOT", tmp_path)
    settings = settings_for(tmp_path, prompt=f"a <lora:{name.format(folder=tmp_path)}:1>")
    with pytest.raises(UserError, match="is no file, and models/lora has no LoRA of that name"):
        draw(worker, settings)


def test_runs_that_were_announced_and_never_begin_are_forgotten(worker):
    for number in range(1000):
        worker.register(f"visitor {number}")
    assert len(worker._expected) <= 100
    assert "visitor 999" in worker._expected


def test_a_warning_is_told_once_and_to_the_visitor_whose_run_it_is_about(worker, tmp_path):
    def read():
        for name in ("ldm.images.io", "optimizedSD.web.pictures"):
            logging.getLogger(name).warning("mine")
        return Drawing(settings_for(tmp_path))

    drawn = worker.draw("other", lambda: Drawing(settings_for(tmp_path, n_iter=500)), "a")
    next(drawn)
    mine = worker.draw("me", read, "b")
    assert [notice.text for notice in next(mine).notices] == ["mine"]
    assert not [n for n in next(drawn).notices if n.text == "mine"]
    drawn.close(), mine.close()


def test_closing_stops_all_runs_and_says_whether_a_step_goes_on(worker, tmp_path, monkeypatch):
    begun, free = threading.Event(), threading.Event()

    def long_step(*_, **__):
        begun.set()
        free.wait(30)
        yield from ()

    assert worker.close(0.0)
    monkeypatch.setattr(worker.pipeline, "generate", long_step)
    run = worker.draw("me", lambda: Drawing(settings_for(tmp_path)))
    next(run)
    assert begun.wait(30)
    assert not worker.close(0.01)
    free.set()
    assert worker.close(30.0)


def test_visitors_are_served_one_after_the_other(worker, tmp_path, monkeypatch):
    inside, most = [], []
    generate = worker.pipeline.generate

    def counted(*given, **rest):
        inside.append(1)
        most.append(len(inside))
        try:
            yield from generate(*given, **rest)
        finally:
            inside.pop()

    monkeypatch.setattr(worker.pipeline, "generate", counted)
    visitors = [
        threading.Thread(target=draw, args=(worker, settings_for(tmp_path / name), name))
        for name in ("a", "b", "c")
    ]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert most == [1, 1, 1]
    assert len(list(tmp_path.rglob("*.png"))) == 6


def test_every_run_is_a_row_of_the_run_log(pipeline, tmp_path):
    log = RunLog("txt2img_gradio_logs.csv", tmp_path / "logs")
    worker = Worker(pipeline, log_run=lambda settings: log.add(row_of(settings, device="cpu")))
    for seed in (1, 2):
        draw(worker, settings_for(tmp_path, seed=seed))
    with open(log.path, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["prompt"], row["seed"]) for row in rows] == [("a cat", "1"), ("a cat", "2")]


def test_a_run_log_that_cannot_be_written_is_a_warning(pipeline, tmp_path):
    def fail(settings):
        raise UserError("the run cannot be logged")

    last = draw(Worker(pipeline, fail), settings_for(tmp_path))[-1]
    assert len(last.pictures) == 2
    assert any(n.warning and n.text == "the run cannot be logged" for n in last.notices)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"H": 15}, "expected a multiple of 4"), ({"ddim_steps": 5000}, "the model has 1000 steps")],
)
def test_a_run_that_cannot_be_drawn_is_an_error_and_the_next_one_works(
    worker, tmp_path, changes, message
):
    with pytest.raises(UserError, match=message):
        draw(worker, settings_for(tmp_path, **changes))
    assert len(draw(worker, settings_for(tmp_path))[-1].pictures) == 2


def test_a_folder_that_cannot_be_written_is_an_error_before_anything_is_drawn(worker, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot be written to"):
        draw(worker, settings_for(tmp_path / "file"))


def test_a_mistake_in_what_is_asked_leaves_no_trace(worker):
    def fail():
        raise UserError("a mistake")

    worker.register("me")
    with pytest.raises(UserError, match="a mistake"):
        list(worker.draw("me", fail))
    assert not worker._expected
    assert not worker._running

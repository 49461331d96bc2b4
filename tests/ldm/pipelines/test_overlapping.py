"""Batches decoded beside the next one's steps: the same pictures, in order, whatever happens.

On a processor a stand-in for a stream does its work as late as it may: when the result is asked
for. What a device would have to wait for is then still to be done.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawing import draw, pixels_of, staged_on_processor, text_settings

from ldm.errors import UserError
from ldm.pipelines import cancelling, overlapping
from ldm.pipelines.cancelling import Cancel, Cancelled
from ldm.pipelines.overlapping import Beside, can_overlap, one_behind
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Progress

CPU = torch.device("cpu")
SETTINGS = text_settings(n_iter=3, n_samples=2)
OVERLAPPED = text_settings(n_iter=3, n_samples=2, decode_beside="auto")


class Late:
    """Does its work when the result is wanted."""

    ended = 0

    def __init__(self, device):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        Late.ended += 1

    def start(self, work, x):
        number = len([each for each in log if each.startswith("start")])
        log.append(f"start {number}")

        def result():
            log.append(f"result {number}")
            return work(x)

        return result


log: list[str] = []


@pytest.fixture
def late(monkeypatch):
    """Let runs overlap here, with a stand-in for the stream."""
    log.clear()
    Late.ended = 0
    monkeypatch.setattr(overlapping, "can_overlap", lambda run: True)  # noqa: ARG005
    monkeypatch.setattr(overlapping, "Beside", Late)


def drawn_until(pipeline, error, see=lambda _: None, settings=OVERLAPPED, **given):
    """Return the pictures that come before a run fails with an error, and that."""
    pictures = []
    with pytest.raises(error) as caught:
        for picture in pipeline.generate(settings, observer=see, **given):
            pictures.append(picture)
    return pictures, caught.value


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("more", [{}, {"seed_mode": "per-image"}, {"ddim_eta": 1.0}])
def test_pictures_their_order_and_their_recipes_are_those_of_the_plain_way(pipeline, more):
    plain, told = draw(pipeline, text_settings(n_iter=3, n_samples=2, **more))
    others, told_then = draw(pipeline, text_settings(n_iter=3, decode_beside="auto", **more))
    assert log == ["start 0", "start 1", "result 0", "start 2", "result 1", "result 2"]
    assert np.array_equal(pixels_of(others), pixels_of(plain))
    assert [p.parameters for p in others] == [p.parameters for p in plain]
    assert [p.place for p in others] == [p.place for p in plain]
    done = [each.done for each in told_then if isinstance(each, Progress)]
    assert done == sorted(done) and told_then[-1] == told[-1]
    assert Late.ended == 1


@pytest.mark.usefixtures("late")
def test_random_numbers_drawn_between_pictures_change_none(pipeline):
    plain, _ = draw(pipeline, SETTINGS)
    pictures = []
    for picture in pipeline.generate(OVERLAPPED, observer=lambda _: None):
        pictures.append(picture)
        torch.randn(100)
    assert np.array_equal(pixels_of(pictures), pixels_of(plain))


@pytest.mark.usefixtures("late")
def test_a_cancelled_run_gives_the_pictures_whose_steps_were_done(pipeline, monkeypatch):
    # As on a card, where nobody looks at the token in the middle of a decoding.
    monkeypatch.setattr(cancelling, "interruptible", lambda *_: nullcontext())
    plain, _ = draw(pipeline, SETTINGS)
    token = Cancel()

    def see(event):
        if isinstance(event, Progress) and event.done == 2 * 4 + 2:  # in the second batch
            token.cancel("enough")

    pictures, caught = drawn_until(pipeline, Cancelled, see, cancel=token)
    assert str(caught) == "enough"
    assert np.array_equal(pixels_of(pictures), pixels_of(plain[:2]))
    assert Late.ended == 1


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_an_error_in_a_batch_comes_out_as_it_is_after_the_pictures_before_it(
    pipeline, monkeypatch, error
):
    plain, _ = draw(pipeline, SETTINGS)
    decode, calls = pipeline.model.decode_first_stage, []

    def failing(x):
        calls.append(x)
        if len(calls) == 2:
            raise error
        return decode(x)

    monkeypatch.setattr(pipeline.model, "decode_first_stage", failing)
    pictures, caught = drawn_until(pipeline, type(error))
    assert caught is error and np.array_equal(pixels_of(pictures), pixels_of(plain[:2]))


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_an_error_in_the_next_batchs_steps_loses_no_picture_before_it(pipeline, error):
    plain, _ = draw(pipeline, SETTINGS)

    def see(event):
        if isinstance(event, Progress) and event.done == 2 * 4 + 2:  # in the second batch
            raise error

    pictures, caught = drawn_until(pipeline, type(error), see)
    assert caught is error and np.array_equal(pixels_of(pictures), pixels_of(plain[:2]))


@pytest.mark.usefixtures("late")
def test_pictures_that_came_out_as_nan_are_said_to_as_ever(pipeline, monkeypatch):
    broken = lambda x: x.new_full((len(x), 3, 64, 64), torch.nan)  # noqa: E731
    monkeypatch.setattr(pipeline.model, "decode_first_stage", broken)
    messages = [
        str(drawn_until(pipeline, UserError, settings=each)[1]) for each in (SETTINGS, OVERLAPPED)
    ]
    assert messages[0] == messages[1] and "NaN" in messages[0]


@pytest.mark.usefixtures("late")
def test_who_takes_one_picture_and_leaves_ends_the_work_beside(pipeline):
    pictures = pipeline.generate(OVERLAPPED, observer=lambda _: None)
    next(pictures)
    pictures.close()
    assert Late.ended == 1


def test_items_come_one_behind_and_the_last_ones_before_an_error():
    def started():
        yield from "ab"
        log.append("asked for c")
        raise ValueError("no c")

    log.clear()
    found = []
    with pytest.raises(ValueError, match="no c"):
        for item in one_behind(started(), lambda: log.append("failed")):
            found.append((item, list(log)))
    assert found == [("a", []), ("b", ["asked for c", "failed"])]
    assert list(one_behind(iter(()))) == []


# --- the streams ---


class Stream:
    """Takes down what it is told."""

    def __init__(self, name="side"):
        self.name = name

    def wait_stream(self, other):
        log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event):
        log.append(f"{self.name} waits for {event}")

    def record_event(self):
        log.append(f"{self.name} records an event")
        return "the event"

    def __enter__(self):
        log.append(f"on {self.name}")

    def __exit__(self, *_):
        log.append(f"off {self.name}")


@pytest.fixture
def streams(monkeypatch):
    """Stand in for CUDA's streams."""
    log.clear()
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())  # noqa: ARG005
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))  # noqa: ARG005
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    kept = lambda x, stream: log.append(f"{int(x)} is kept for {stream.name}")  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "record_stream", kept, raising=False)


@pytest.mark.usefixtures("streams")
def test_each_stream_waits_for_the_other_and_memory_is_kept_for_both():
    with Beside(torch.device("cuda")) as beside:
        result = beside.start(lambda x: x + 1, torch.tensor(1))
        started = list(log)
        assert int(result()) == 2
        taken = log[len(started) :]
    assert started == [
        *("side waits for main", "1 is kept for side", "on side"),
        *("side records an event", "off side"),
    ]
    assert taken == ["main waits for the event", "2 is kept for main"]
    assert log[-1] == "main waits for side"


@pytest.mark.usefixtures("streams")
def test_work_that_fails_leaves_its_stream_and_the_other_waits_for_what_was_done():
    with pytest.raises(ZeroDivisionError), Beside(torch.device("cuda")) as beside:
        beside.start(lambda x: x / 0 if isinstance(x, int) else 1 / 0, torch.tensor(1))
    assert log[-2:] == ["off side", "main waits for side"]


# --- whether it is done ---


def run_of(pipeline, n_iter=2):
    """Return a run that has begun, on what it takes for a CUDA device."""
    run = pipeline.run(pipeline.prepare(text_settings(n_iter=n_iter)), told.append)
    with run.ready():
        run.begin()
    told.clear()
    run.execution = SimpleNamespace(device=torch.device("cuda"), half=None, is_whole=True)
    return run


told: list = []


def test_one_batch_has_nothing_beside_it(pipeline):
    assert not can_overlap(run_of(pipeline, n_iter=1)) and "one batch" in told[-1].text


def test_a_model_whose_parts_take_turns_overlaps_nothing(pipeline):
    run = run_of(pipeline)
    run.execution.is_whole = False
    assert not can_overlap(run) and not told  # it was said with the other choices


def test_faces_are_redrawn_batch_by_batch(pipeline):
    run = run_of(pipeline)
    run.settings = SimpleNamespace(restore_faces="faces.pth")
    assert not can_overlap(run) and "faces are redrawn" in told[-1].text


def test_walks_that_finish_their_own_batches_are_left_to_it(pipeline):
    run = run_of(pipeline)
    run.walk = type("Own", (type(run.walk),), {})(run.request, run.model, CPU)
    assert not can_overlap(run) and "batch by batch" in told[-1].text


def test_attention_that_is_followed_is_followed_batch_by_batch(pipeline):
    run = run_of(pipeline)
    run.controller = object()
    assert not can_overlap(run) and "attention" in told[-1].text


def test_where_memory_is_short_nothing_overlaps(pipeline, monkeypatch):
    run = run_of(pipeline)
    for free, can in ((2**40, True), (2**20, False)):
        monkeypatch.setattr(overlapping, "free_memory", lambda device, free=free: free)  # noqa: ARG005
        assert can_overlap(run) == can
    assert "GiB of memory at once" in told[-1].text


def test_parts_that_take_turns_and_processors_draw_one_batch_after_the_other(tiny_ckpt, pipeline):
    for each, why in ((pipeline, "CUDA device"), (staged_on_processor(tiny_ckpt), "take turns")):
        pictures, events = draw(each, OVERLAPPED)
        (text,) = [e.text for e in events if "--decode_beside" in getattr(e, "text", "")]
        assert "--decode_beside has no effect" in text and why in text and len(pictures) == 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_a_card_the_pictures_are_those_of_the_plain_way(tiny_ckpt):
    pipeline = Pipeline.load(tiny_ckpt, device="cuda")
    plain, _ = draw(pipeline, SETTINGS)
    for more in ({}, {"graphs": "auto"}):
        others, events = draw(pipeline, text_settings(n_iter=3, decode_beside="auto", **more))
        assert np.array_equal(pixels_of(others), pixels_of(plain))
        assert not any("--decode_beside" in getattr(each, "text", "") for each in events)

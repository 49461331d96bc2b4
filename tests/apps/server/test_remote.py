"""Pictures that another process draws are those drawn here, and a lost process costs none."""

from __future__ import annotations

import asyncio
import pickle
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from flat_drawer import FlatDrawer, demo_choice
from PIL import Image

from apps.server.asking import MaskJob, TextJob, settings_of
from apps.server.drawing import single
from apps.server.remote import Failed, Finished, RemoteDrawer, relayed, told
from ldm.errors import UserError
from ldm.pipelines.phases import lacked_memory
from ldm.pipelines.progress import Notice, Progress


class Lost(Exception):
    """A process is not there any more."""


def sent(value):
    """Return a value as another process gets it."""
    return pickle.loads(pickle.dumps(value))


def sent_without_model(requests):
    return sent([replace(request, choice=None) for request in requests])


@pytest.fixture
def there():
    """What draws, in the other process."""
    return FlatDrawer()


@pytest.fixture
def here(there):
    """What stands in for it, in this one."""

    def send(requests):
        with closing(told(there, sent(requests))) as events:
            yield from map(sent, events)

    return RemoteDrawer(demo_choice(), 2, send, (Lost,))


def requests_of(drawer, count: int = 2, **fields):
    settings = settings_of({"prompt": "a cat", "seed": 5, "n_samples": count, **fields}, TextJob)
    return [drawer.prepare(each) for each in single(settings)]


def drawn(drawer, requests, observer=lambda _: None) -> dict[int, object]:
    found = {}
    for index, finish in drawer.draw(requests, observer):
        try:
            found[index] = finish()
        except UserError as error:
            found[index] = str(error)
    return found


def test_pictures_and_progress_come_back_as_they_were_drawn(here, there):
    requests, seen = requests_of(here, 3, ddim_steps=2), []
    there.says = ["not so many steps"]
    there_too, here_too = drawn(there, requests), drawn(here, requests, seen.append)
    assert here_too.keys() == there_too.keys() == {0, 1, 2}
    for index, picture in here_too.items():
        assert np.array_equal(picture.pixels, there_too[index].pixels)
        assert picture.parameters == there_too[index].parameters
    said = Notice("not so many steps", warning=True)
    assert seen == [said, Progress(3, 6, 0, 3), Progress(6, 6, 0, 3)]


def test_requests_with_pictures_and_masks_can_be_sent_and_know_no_file_of_the_model(here, there):
    photo, mask = Image.new("RGB", (64, 64)), Image.new("L", (64, 64), 255)
    (request,) = [here.prepare(each, photo, mask) for each in single(settings_of({}, MaskJob))]
    assert drawn(here, [request]).keys() == {0}


def test_requests_prepared_here_fit_together_as_they_do_there(here, there):
    a, b = requests_of(here, 2)
    (c,) = requests_of(here, 1, ddim_steps=7)
    assert here.group(a) == here.group(b) != here.group(c)


@pytest.mark.parametrize(
    ("error", "kind", "lacks"),
    [
        (UserError("too large"), UserError, False),
        (RuntimeError("assert"), RuntimeError, False),
        (MemoryError("x"), UserError, True),
    ],
)
def test_what_ends_a_batch_there_ends_it_here_alike(here, there, error, kind, lacks):
    def fails(_):
        raise error

    there.fails = fails
    with pytest.raises(kind) as caught:
        drawn(here, requests_of(here))
    assert lacked_memory(caught.value) == lacks


def test_a_lost_process_costs_no_picture_and_doubles_none(there):
    asked = []

    def send(requests):
        asked.append([request.settings.seed for request in requests])
        events = told(there, sent(requests))
        for event in events:
            yield event
            if isinstance(event, Finished) and len(asked) < 3:
                events.close()
                raise Lost

    here = RemoteDrawer(demo_choice(), 2, send, (Lost,))
    found = [index for index, _ in here.draw(requests_of(here, 4), lambda _: None)]
    assert found == [0, 1, 2, 3] and asked == [[5, 6, 7, 8], [6, 7, 8], [7, 8]]


def test_a_batch_that_kills_every_process_is_given_up():
    def send(_):
        raise Lost
        yield

    here = RemoteDrawer(demo_choice(), 1, send, (Lost,))
    with pytest.raises(RuntimeError, match="3 processes"):
        drawn(here, requests_of(here))


def test_closing_stops_a_drawing_that_would_never_end(there):
    ended = threading.Event()

    def draw(own, observer):
        try:
            while True:
                observer(Progress(1, 2, 0, 1))
                yield from ()
        finally:
            ended.set()

    there.draw = draw
    events = told(there, sent_without_model(requests_of(there, 1)))
    assert isinstance(next(events), Progress) and not ended.is_set()
    events.close()
    assert ended.is_set()


def test_a_cancel_between_two_steps_ends_only_when_the_drawing_has(there):
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def draw(own, observer):
        try:
            begun.set()
            go_on.wait(20.0)
            observer(Progress(1, 2, 0, 1))
            observer(Progress(2, 2, 0, 1))
            yield from ()
        finally:
            ended.set()

    async def cancel() -> None:
        events = relayed(told(there, sent_without_model(requests_of(there, 1))))
        task = asyncio.ensure_future(anext(events))
        assert await asyncio.to_thread(begun.wait, 20.0)
        task.cancel()
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    there.draw = draw
    asyncio.run(cancel())


def test_two_batches_of_one_model_follow_each_other(there):
    alone, there_now = threading.Lock(), []

    def draw(own, observer):
        there_now.append(own)
        observer(Progress(1, 1, 0, 1))
        assert len(there_now) == 1
        there_now.pop()
        yield from ()

    there.draw = draw
    requests = sent_without_model(requests_of(there, 1))
    with alone:
        first, second = told(there, requests, alone), told(there, requests, alone)
        waiting = threading.Thread(target=next, args=(first,))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and there_now == []
    waiting.join(20.0)
    assert list(first) == [] and list(second) == [Progress(1, 1, 0, 1)]


def test_what_failed_says_what_it_was():
    with pytest.raises(UserError, match="x") as caught:
        Failed("memory", "x").check()
    assert lacked_memory(caught.value)

"""A run's state after each event, in the words that the page shows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ldm.pipelines.progress import Notice, Progress
from optimizedSD.web import state
from optimizedSD.web.state import RunState, SavedPicture

SAVED = SavedPicture(Path("a.png"), 7, "a cat")


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, in a list whose only item a test may change."""
    now = [100.0]
    monkeypatch.setattr(state, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_the_time_left_is_that_of_the_steps_left_at_the_pace_so_far(clock):
    run = RunState(seed=7, began=clock[0])
    clock[0] += 3
    after = run.after(Progress(done=10, total=40, pictures=1, total_pictures=4))
    assert after.status == "10 of 40 steps, 1 of 4 pictures, about 9 s left"
    assert after.fraction == 0.25


def test_a_run_without_steps_is_done_at_once():
    assert RunState(seed=7).after(Progress(0, 0, 1, 1)).fraction == 1.0


def test_a_notice_is_kept_once_in_the_order_it_came():
    first, second = Notice("one"), Notice("two", warning=True)
    run = RunState(seed=7)
    for notice in (first, second, first):
        run = run.after(notice)
    assert run.notices == (first, second)


@pytest.mark.parametrize(
    ("pictures", "stopped", "status"),
    [
        ((SAVED,), False, "1 picture in 5 s."),
        ((SAVED, SAVED), False, "2 pictures in 5 s."),
        ((SAVED,), True, "Stopped after 5 s: 1 picture kept."),
        ((), True, "Stopped after 5 s: nothing was finished."),
    ],
)
def test_the_last_status_counts_the_pictures_and_says_whether_the_run_was_stopped(
    pictures, stopped, status, clock
):
    run = RunState(seed=7, pictures=pictures, fraction=0.5, began=clock[0])
    clock[0] += 5
    ended = run.ended(stopped=stopped)
    assert ended.status == status
    assert ended.over
    assert ended.fraction == (0.5 if stopped else 1.0)


def test_pictures_of_one_noise_are_shown_beside_each_other_in_whichever_order_they_come():
    run = RunState(seed=7)
    for index, number in [(0, 1), (1, 1), (0, 0), (1, 0), (2, 0)]:
        place = SimpleNamespace(index=index)
        picture = SimpleNamespace(place=place, number=number, seed=7 + index, parameters="a cat")
        run = run.with_picture(picture, Path("a.png"))
    assert [saved.place for saved in run.pictures] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    assert run.pictures[-1].caption == "a.png, seed 9"

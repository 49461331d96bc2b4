"""Work in the background: watched as it goes, stopped when nobody watches."""

from __future__ import annotations

import threading

import pytest

from optimizedSD.web.background import Background, Stopped


def background(work, **rest):
    return Background(work, threading.Event(), pause=0.0, **rest)


def test_the_last_view_is_always_seen_and_views_come_in_order():
    views = list(background(lambda report: [report(n) for n in range(1000)]).views())
    assert views == sorted(views)
    assert views[-1] == 999


def test_work_stays_in_one_thread_whoever_watches():
    threads = set()

    def work(report):
        for n in range(20):
            threads.add(threading.get_ident())
            report(n)

    views = background(work).views()
    while True:  # every step of the watching in a thread of its own, as a web server does it
        got = []
        watcher = threading.Thread(target=lambda got=got: got.extend([next(views, None)]))
        watcher.start()
        watcher.join()
        if got == [None]:
            break
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_reaches_who_watches():
    def work(report):
        report("begun")
        raise ValueError("it broke")

    seen = []
    with pytest.raises(ValueError, match="it broke"):
        seen.extend(background(work).views())


def test_a_stop_breaks_the_work_off_and_its_last_view_is_seen():
    stop, told = threading.Event(), []

    def work(report):
        for n in range(10**9):
            told.append(n)
            report(n)

    run = Background(work, stop, pause=0.0)
    for view in run.views():
        if view >= 3:
            stop.set()
    assert run.stopped
    assert view == told[-1]


def test_closing_the_views_stops_the_work():
    ended = threading.Event()

    def work(report):
        try:
            while True:
                report("on and on")
        except Stopped:
            ended.set()
            raise

    views = background(work).views()
    next(views)
    views.close()
    assert ended.wait(timeout=30)


def test_work_that_ends_by_itself_was_not_stopped():
    run = background(lambda report: report("done"))
    assert list(run.views()) == ["done"]
    assert not run.stopped


def test_work_without_a_view_has_none():
    assert list(background(lambda report: None).views()) == []

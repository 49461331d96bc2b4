"""What work in a thread of its own reports arrives in order and to the last, and a stop ends it."""

from __future__ import annotations

import threading

import pytest

from optimizedSD.web.background import Background, Stopped


def background(work, **rest):
    return Background(work, threading.Event(), pause=0.0, **rest)


def test_the_last_report_always_arrives_and_reports_come_in_order():
    items = list(background(lambda report: [report(n) for n in range(1000)]).reports())
    assert items == sorted(items)
    assert items[-1] == 999


def test_work_stays_in_one_thread_whichever_thread_iterates():
    threads = set()

    def work(report):
        for n in range(20):
            threads.add(threading.get_ident())
            report(n)

    items = background(work).reports()
    while True:  # each step from another thread, as a web server does it
        got = []
        reader = threading.Thread(target=lambda got=got: got.extend([next(items, None)]))
        reader.start()
        reader.join()
        if got == [None]:
            break
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_in_the_work_is_raised_where_its_reports_are_read():
    def work(report):
        report("begun")
        raise ValueError("it broke")

    seen = []
    with pytest.raises(ValueError, match="it broke"):
        seen.extend(background(work).reports())


def test_a_stop_ends_the_work_and_its_last_report_arrives():
    stop, reported = threading.Event(), []

    def work(report):
        for n in range(10**9):
            reported.append(n)
            report(n)

    run = Background(work, stop, pause=0.0)
    for item in run.reports():
        if item >= 3:
            stop.set()
    assert run.stopped
    assert item == reported[-1]


def test_closing_the_reports_stops_the_work():
    ended = threading.Event()

    def work(report):
        try:
            while True:
                report("on and on")
        except Stopped:
            ended.set()
            raise

    items = background(work).reports()
    next(items)
    items.close()
    assert ended.wait(timeout=30)


def test_work_that_ends_by_itself_was_not_stopped():
    run = background(lambda report: report("done"))
    assert list(run.reports()) == ["done"]
    assert not run.stopped


def test_work_without_a_report_yields_nothing():
    assert list(background(lambda report: None).reports()) == []

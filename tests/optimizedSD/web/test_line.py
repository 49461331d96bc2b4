"""In the line, who came first is served first, and no address takes every place."""

from __future__ import annotations

import threading

import pytest

from ldm.errors import UserError
from optimizedSD.web.line import Line


def test_places_are_served_in_the_order_they_were_taken():
    line, served = Line(longest=5, share=9), []
    places = [line.enter("a") for _ in range(5)]

    def serve(number):
        line.wait(places[number], lambda ahead: None, pause=5.0)
        served.append(number)
        line.leave(places[number])

    threads = [threading.Thread(target=serve, args=(number,)) for number in (4, 2, 3, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert served == [0, 1, 2, 3, 4]


def test_a_full_line_refuses_until_somebody_leaves():
    line = Line(longest=2)
    first, *_ = [line.enter(address) for address in "abc"]
    with pytest.raises(UserError, match="2 runs wait already"):
        line.enter("d")
    line.leave(first)
    line.enter("d")


def test_an_address_has_its_share():
    line = Line(longest=9, share=2)
    first, _ = line.enter("a"), line.enter("a")
    with pytest.raises(UserError, match="2 runs from your address"):
        line.enter("a")
    line.enter("b")
    line.leave(first)
    line.enter("a")


def test_a_line_without_waiting_serves_one():
    line = Line(longest=0)
    line.enter("a")
    with pytest.raises(UserError, match="0 runs wait"):
        line.enter("b")


def test_who_waits_hears_how_many_are_ahead_and_may_give_up():
    line, heard = Line(longest=3), []
    line.enter("a"), line.enter("b")
    place = line.enter("c")

    def report(ahead):
        heard.append(ahead)
        if len(heard) == 2:
            raise KeyError

    with pytest.raises(KeyError):
        line.wait(place, report, pause=0.01)
    assert heard == [2, 2]
    line.leave(place)


def test_a_line_empties_when_all_have_left():
    line = Line(longest=3)
    assert line.empties(0.0)
    place = line.enter("a")
    assert not line.empties(0.01)
    threading.Timer(0.05, line.leave, [place]).start()
    assert line.empties(30.0)

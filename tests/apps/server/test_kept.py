"""Jobs are kept by number, memory and age, and are there for their own key alone."""

from __future__ import annotations

import pytest

from apps.server.kept import Kept
from apps.server.refused import Refused
from apps.server.tickets import Drawn, Ticket


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ended(kept: Kept, size: int = 10) -> Ticket:
    ticket = Ticket("a", 1)
    kept.add(ticket)
    ticket.take(0, Drawn(b"x" * size, "", "", 0, (1, 1)))
    kept.end(ticket)
    return ticket


def is_there(kept: Kept, ticket: Ticket) -> bool:
    try:
        return kept.find(ticket.id, "a") is ticket
    except Refused as error:
        assert error.status == 404
        return False


def test_a_job_is_found_by_its_own_key_only():
    kept = Kept()
    ticket = ended(kept)
    assert kept.find(ticket.id, "a") is ticket
    for name, key in ((ticket.id, "b"), (ticket.id, ""), ("x", "a"), ("", "a")):
        with pytest.raises(Refused, match="no such job"):
            kept.find(name, key)


def test_the_oldest_go_when_there_are_too_many():
    kept = Kept(jobs=2)
    tickets = [ended(kept) for _ in range(4)]
    assert [is_there(kept, ticket) for ticket in tickets] == [False, False, True, True]


def test_the_oldest_go_when_their_pictures_take_too_much():
    kept = Kept(bytes=25)
    tickets = [ended(kept) for _ in range(3)]
    assert [is_there(kept, ticket) for ticket in tickets] == [False, True, True]
    assert kept.held == 20


def test_what_is_too_old_goes_and_what_is_under_way_stays():
    clock = Clock()
    kept = Kept(seconds=60.0, clock=clock)
    old, waiting = ended(kept), Ticket("a", 1)
    kept.add(waiting)
    clock.now = 61.0
    assert not is_there(kept, old) and is_there(kept, waiting)
    assert len(kept) == 1


def test_somebody_waits_until_jobs_have_ended_and_what_ended_since_was_fetched():
    clock = Clock()
    kept = Kept(clock=clock)
    ended(kept)  # before: its owner may never come
    clock.now = 5.0
    assert not kept.awaited(since=5.0)
    ticket = Ticket("a", 1)
    kept.add(ticket)
    assert kept.awaited(since=5.0)
    ticket.take(0, Drawn(b"x", "", "", 0, (1, 1)))
    kept.end(ticket)
    assert kept.awaited(since=5.0)
    ticket.fetched.add(0)
    assert not kept.awaited(since=5.0)


@pytest.mark.parametrize("end", [Ticket.cancel, lambda ticket: ticket.hand_back(10)])
def test_nobody_comes_for_what_was_cancelled_or_handed_back(end):
    kept, ticket = Kept(), Ticket("a", 2)
    kept.add(ticket)
    ticket.take(0, Drawn(b"x", "", "", 0, (1, 1)))
    assert kept.awaited(since=0.0)
    assert end(ticket)
    kept.end(ticket)
    assert not kept.awaited(since=0.0)

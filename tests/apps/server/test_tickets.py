"""A job ends once, says what became of it, and wakes whoever waits for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from apps.server.refused import Refused
from apps.server.tickets import Drawn, Ticket

PICTURE = Drawn(b"png", "recipe", "a cat", 7, (64, 64))


def test_the_last_picture_ends_a_job_and_they_come_in_order():
    ticket = Ticket("a", 2)
    second = Drawn(b"2", "", "", 8, (64, 64))
    assert not ticket.take(1, second) and not ticket.ended
    assert ticket.take(0, PICTURE) and ticket.snapshot().state == "done"
    assert ticket.pictures == [PICTURE, second] and ticket.bytes == 4
    ticket.check()


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda t: t.fail(422, "H 100 was given"), 422),
        (lambda t: t.cancel(), 409),
        (lambda t: t.hand_back(12), 503),
    ],
    ids=["failed", "cancelled", "handed back"],
)
def test_a_job_that_ended_otherwise_says_so_and_takes_nothing_more(end, status):
    ticket = Ticket("a", 2)
    ticket.take(0, PICTURE)
    assert end(ticket)
    state = ticket.snapshot().state
    assert not ticket.cancel() and not ticket.fail(500, "x") and not ticket.hand_back(1)
    assert not ticket.take(1, PICTURE)
    assert ticket.snapshot().state == state and ticket.pictures == [PICTURE]
    with pytest.raises(Refused) as caught:
        ticket.check()
    assert caught.value.status == status
    assert caught.value.headers == ({"Retry-After": "12"} if status == 503 else {})


def test_the_fraction_rises_to_one():
    ticket = Ticket("a", 2)
    seen = [ticket.snapshot().fraction]
    for index in (0, 1):
        for fraction in (0.5, 1.0):
            ticket.advance(index, fraction)
            seen.append(ticket.snapshot().fraction)
        ticket.take(index, PICTURE)
        seen.append(ticket.snapshot().fraction)
    assert seen == sorted(seen) and seen[0] == 0.0 and seen[-1] == 1.0


def test_what_is_awaited_in_a_loop_is_woken_from_another_thread():
    ticket = Ticket("a", 1)

    async def main() -> list[Drawn]:
        threading.Thread(target=ticket.take, args=(0, PICTURE)).start()
        return await asyncio.wait_for(ticket.finished(), 20.0)

    assert asyncio.run(main()) == [PICTURE]
    assert ticket._listeners == []


def test_changes_are_told_up_to_the_end_and_silence_too():
    ticket = Ticket("a", 1)

    async def main() -> list[object]:
        seen = []
        async for snapshot in ticket.changes(pause=0.01):
            seen.append(snapshot and snapshot.state)
            if snapshot is None:
                ticket.take(0, PICTURE)
        return seen

    seen = asyncio.run(main())
    assert seen[0] == "queued" and seen[-1] == "done" and None in seen
    assert ticket._listeners == []


def test_a_thread_can_wait_and_gives_up_in_time():
    ticket = Ticket("a", 1)
    assert not ticket.wait(0.0)
    threading.Thread(target=ticket.cancel).start()
    assert ticket.wait(20.0)


def test_ids_are_long_and_never_the_same():
    assert len({Ticket("a", 1).id for _ in range(100)}) == 100
    assert len(Ticket("a", 1).id) >= 20

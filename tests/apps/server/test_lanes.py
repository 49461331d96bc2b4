"""Keys take turns by what they cost; nobody saves up turns, and nobody is forgotten."""

from __future__ import annotations

import random

from apps.server.lanes import Lanes
from apps.server.tickets import Row, Ticket


def row(key: str, group: str = "g", cost: float = 1.0, queued: float = 0.0) -> Row:
    return Row(Ticket(key, 1), 0, None, group, cost, queued)


def filled(*keys: str) -> Lanes:
    lanes = Lanes()
    lanes.add(row(key, queued=float(n)) for n, key in enumerate(keys))
    return lanes


def order(lanes: Lanes) -> str:
    """Return whose rows are served, one after the other."""
    served = ""
    while (first := lanes.first()) is not None:
        (taken,) = lanes.take(first.group, 1)
        assert taken is first
        served += taken.ticket.key
    return served


def test_keys_take_turns_whatever_the_length_of_their_lanes():
    assert order(filled(*"aaaaaabbc")) == "abcabaaaa"


def test_a_key_whose_pictures_cost_more_has_fewer_turns():
    lanes = Lanes()
    lanes.add(row("a", cost=3.0) for _ in range(3))
    lanes.add(row("b", cost=1.0) for _ in range(9))
    served = order(lanes)
    assert [served[: n + 1].count("b") for n in (3, 7)] == [3, 6]


def test_a_lane_that_was_empty_begins_where_the_others_are():
    lanes = filled(*"aaaaaa")
    for _ in range(4):
        lanes.take("g", 1)
    lanes.add(row("b") for _ in range(6))
    assert order(lanes)[:4].count("b") == 3  # one turn that it is behind, then in turn


def test_of_one_group_those_whose_turn_it_is_are_taken_together():
    lanes = Lanes()
    lanes.add([row("a", "x"), row("a", "y"), row("a", "x"), row("b", "y"), row("b", "x")])
    taken = lanes.take("x", 2)
    assert [(each.ticket.key, each.group) for each in taken] == [("a", "x"), ("b", "x")]
    assert len(lanes) == 3 and lanes.of("a") == 2


def test_a_group_that_others_overtake_is_served_in_the_end():
    lanes = Lanes()
    lanes.add([row("a", "rare")])
    for _ in range(50):
        lanes.add([row("b", "common")])
        first = lanes.first()
        if first.group == "rare":
            return
        lanes.take(first.group, 1)
    raise AssertionError("the rare one was never first")


def test_a_dropped_job_leaves_no_row_and_others_theirs():
    lanes, ticket = filled("b"), Ticket("a", 3)
    lanes.add(Row(ticket, n, None, "g", 1.0, 0.0) for n in range(3))
    lanes.drop(ticket)
    assert len(lanes) == 1 and lanes.of("a") == 0
    lanes.drop(ticket)


def test_how_many_are_ahead_is_how_many_are_served_before():
    draw = random.Random(5)
    for _ in range(30):
        lanes, rows = Lanes(), []
        for n in range(draw.randrange(1, 12)):
            rows.append(row(draw.choice("abc"), queued=float(n)))
            lanes.add(rows[-1:])
        wanted = draw.choice(rows)
        told, before = lanes.ahead(wanted.ticket), 0
        while (first := lanes.first()) is not wanted:
            before += len(lanes.take(first.group, 1))
        assert abs(told - before) <= 2  # those of the same round


def test_what_waits_costs_its_sum_and_is_handed_over_whole():
    lanes = filled(*"aabc")
    assert lanes.cost == 4.0
    assert len(lanes.clear()) == 4 and len(lanes) == 0 and lanes.first() is None

"""Who is served next: each key has a lane, and the lane that has had the least goes first.

Start-time fair queueing: a lane is charged for what it is served, and one that was empty begins
where the others are, so that nobody saves up turns. Keys whose pictures cost the same take turns,
whatever the length of their lanes. Not safe between threads: the service holds its lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator

from apps.server.tickets import Row, Ticket


class Lanes:
    """The rows that wait, by key."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Row]] = {}
        self._charged: dict[str, float] = {}
        self._now = 0.0  # what the lane that was served last had been charged

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __iter__(self) -> Iterator[Row]:
        for lane in self._lanes.values():
            yield from lane

    def of(self, key: str) -> int:
        """Return how many rows of a key wait."""
        return len(self._lanes.get(key, ()))

    @property
    def count(self) -> int:
        """How many keys' rows wait."""
        return len(self._lanes)

    @property
    def cost(self) -> float:
        """What all that waits will cost."""
        return sum(row.cost for row in self)

    def add(self, rows: Iterable[Row]) -> None:
        """Put rows at the ends of their lanes."""
        for row in rows:
            key = row.ticket.key
            if key not in self._lanes:
                self._lanes[key] = deque()
                self._charged[key] = max(self._charged.get(key, 0.0), self._now)
            self._lanes[key].append(row)

    def first(self) -> Row | None:
        """Return the row that is served next; None if none waits."""
        fronts = [lane[0] for lane in self._lanes.values()]
        return min(fronts, key=self._turn, default=None)

    def take(self, group: Hashable, most: int) -> list[Row]:
        """Take rows of one group out, those whose turn is first, and charge their lanes.

        Args:
            group: The rows'.
            most: How many rows at most.
        """
        taken: list[Row] = []
        while len(taken) < most:
            fitting = (self._fitting(lane, group) for lane in self._lanes.values())
            row = min(filter(None, fitting), key=self._turn, default=None)
            if row is None:
                break
            key = row.ticket.key
            self._now = max(self._now, self._charged[key])
            self._charged[key] += row.cost
            self._remove(row)
            taken.append(row)
        return taken

    def drop(self, ticket: Ticket) -> None:
        """Forget the rows of a job."""
        for row in [row for row in self._lanes.get(ticket.key, ()) if row.ticket is ticket]:
            self._remove(row)

    def clear(self) -> list[Row]:
        """Take all rows out."""
        rows = list(self)
        self._lanes.clear()
        return rows

    def ahead(self, ticket: Ticket) -> int:
        """Return about how many pictures are drawn before a job's first one that waits."""
        own = [row.ticket for row in self._lanes.get(ticket.key, ())]
        if ticket not in own:
            return 0
        place = own.index(ticket)
        others = (lane for key, lane in self._lanes.items() if key != ticket.key)
        return place + sum(min(len(lane), place + 1) for lane in others)

    def _turn(self, row: Row) -> tuple[float, float]:
        return self._charged[row.ticket.key], row.queued

    def _fitting(self, lane: deque[Row], group: Hashable) -> Row | None:
        return next((row for row in lane if row.group == group), None)

    def _remove(self, row: Row) -> None:
        lane = self._lanes[row.ticket.key]
        lane.remove(row)
        if not lane:
            del self._lanes[row.ticket.key]

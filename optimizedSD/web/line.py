"""The line in front of the model: runs go in the order they came, and nobody takes all places."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from ldm.budgets import RUNS_OF_ONE
from ldm.errors import UserError


@dataclass(eq=False)
class Place:
    """A place in the line.

    Attributes:
        address: Whose it is.
    """

    address: str


@dataclass
class Line:
    """A line in which the first is served; all methods may be called from any thread.

    Attributes:
        longest: How many may wait for the first.
        share: How many places one address may have.
    """

    longest: int
    share: int = RUNS_OF_ONE
    _places: list[Place] = field(default_factory=list)
    _moved: threading.Condition = field(default_factory=threading.Condition)

    def enter(self, address: str) -> Place:
        """Take the last place, to be given back to ``leave``.

        Raises:
            UserError: The line is full, or the address has its share of it.
        """
        with self._moved:
            if len(self._places) > self.longest:
                raise UserError(
                    f"{self.longest} runs wait already; expected a free place in the line; try "
                    "again later"
                )
            if sum(place.address == address for place in self._places) >= self.share:
                raise UserError(
                    f"{self.share} runs from your address are drawn or wait already; expected a "
                    "free place; wait until one of them has ended"
                )
            place = Place(address)
            self._places.append(place)
            return place

    def wait(self, place: Place, report: Callable[[int], None], pause: float = 0.5) -> None:
        """Wait until a place is the first.

        Args:
            place: What ``enter`` returned.
            report: Called with the number of those ahead, at once and every ``pause`` seconds;
                what it raises ends the waiting.
            pause: In seconds.
        """
        with self._moved:
            while ahead := self._places.index(place):
                report(ahead)
                self._moved.wait(pause)

    def leave(self, place: Place) -> None:
        """Give a place up; the next one moves forward."""
        with self._moved:
            self._places.remove(place)
            self._moved.notify_all()

    def empties(self, patience: float) -> bool:
        """Return whether everybody has left within so many seconds."""
        with self._moved:
            return self._moved.wait_for(lambda: not self._places, patience)

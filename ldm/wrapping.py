"""Wrap an object's methods temporarily, and restore them without a trace."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


class StandIn(partial):
    """A function that is called in place of a method; its first argument is that method."""


def is_stood_in(owner: Any, name: str) -> bool:
    """Check whether a method is wrapped."""
    return isinstance(vars(owner).get(name), StandIn)


class Wrapping:
    """Methods that are wrapped until ``undo``.

    The wrappers are attributes of the objects themselves, which Python finds before the methods of
    their classes.
    """

    def __init__(self) -> None:
        self._put: list[tuple[Any, str, dict[str, Any]]] = []

    def put(self, owner: Any, name: str, function: Callable) -> None:
        """Make ``owner.name(...)`` call ``function(own method, ...)``."""
        own = getattr(owner, name)
        before = {name: own} if name in vars(owner) else {}
        setattr(owner, name, StandIn(function, own))
        self._put.append((owner, name, before))

    def undo(self) -> None:
        """Restore every object's own methods, in reverse order."""
        while self._put:
            owner, name, before = self._put.pop()
            delattr(owner, name)
            vars(owner).update(before)

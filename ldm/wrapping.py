"""Wrap an object's methods or set its attributes temporarily, and restore all without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def with_attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of an object inside a ``with`` block."""
    before = {name: vars(owner)[name]} if name in vars(owner) else {}
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)
        vars(owner).update(before)

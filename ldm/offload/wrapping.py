"""Standing in front of an object's methods for a while, and leaving without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Wrapping:
    """Methods that are called through something else until ``undo``.

    The stand-ins are attributes of the objects themselves, which Python finds before the methods
    of their classes.
    """

    def __init__(self) -> None:
        self._put: list[tuple[Any, str]] = []

    def put(self, owner: Any, name: str, function: Callable) -> None:
        """Let ``owner.name(...)`` call ``function(own method, ...)``."""
        own = getattr(owner, name)
        assert name not in vars(owner), f"{name} of {type(owner).__name__} has a stand-in already"

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return function(own, *args, **kwargs)

        setattr(owner, name, stand_in)
        self._put.append((owner, name))

    def undo(self) -> None:
        """Let every object have its own methods back."""
        while self._put:
            delattr(*self._put.pop())

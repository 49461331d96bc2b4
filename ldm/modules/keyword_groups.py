"""Sort keyword arguments by their prefix, with the predicates that x-transformers has for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from functools import partial
from typing import Any


def always(val: Any) -> Callable[..., Any]:
    """Return a function that returns ``val`` whatever it is called with."""

    def inner(*_args: Any, **_kwargs: Any) -> Any:
        return val

    return inner


def equals(val: Any) -> Callable[[Any], bool]:
    """Return a test for being ``val``."""
    return lambda x: x == val


def not_equals(val: Any) -> Callable[[Any], bool]:
    """Return a test for being anything but ``val``."""
    return lambda x: x != val


def pick_and_pop(keys: Iterable[str], d: MutableMapping[str, Any]) -> dict[str, Any]:
    """Take ``keys`` out of ``d`` and return them with their values."""
    return {key: d.pop(key) for key in keys}


def group_dict_by_key(
    cond: Callable[[str], Any], d: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the entries of ``d`` whose keys meet a condition, and the others."""
    chosen = {key: value for key, value in d.items() if cond(key)}
    return chosen, {key: value for key, value in d.items() if key not in chosen}


def string_begins_with(prefix: str, str: str) -> bool:  # noqa: A002 - the reference's name
    """Check whether ``str`` begins with ``prefix``."""
    return str.startswith(prefix)


def group_by_key_prefix(prefix: str, d: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the entries of ``d`` whose keys begin with ``prefix``, and the others."""
    return group_dict_by_key(partial(string_begins_with, prefix), d)


def groupby_prefix_and_trim(
    prefix: str, d: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Do the same, and leave the prefix off."""
    chosen, others = group_by_key_prefix(prefix, d)
    return {key.removeprefix(prefix): value for key, value in chosen.items()}, others

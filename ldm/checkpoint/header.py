"""Parse the header entries (``KEY=VALUE``) of a command line. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence


def header_entries(given: Sequence[str]) -> dict[str, str]:
    """Split entries, each ``KEY=VALUE``; a KEY without a dot gets the prefix ``modelspec.``

    Example:
        >>> header_entries(["author=me", "my.note=a=b"])
        {'modelspec.author': 'me', 'my.note': 'a=b'}
    """
    found = {}
    for entry in given:
        key, _, value = entry.partition("=")
        found[key if "." in key else f"modelspec.{key}"] = value
    return found

"""Entries of a file's header as a command line gives them. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from ldm.errors import UserError

HELP = (
    "entry for the file's header, repeatable; a KEY without a dot, such as author, license or "
    "prediction_type, gets the prefix modelspec."
)


def header_entries(given: Sequence[str]) -> dict[str, str]:
    """Read ``KEY=VALUE`` entries.

    Raises:
        UserError: An entry without ``=``.

    Example:
        >>> header_entries(["author=me", "my.note=a=b"])
        {'modelspec.author': 'me', 'my.note': 'a=b'}
    """
    found = {}
    for entry in given:
        key, equals, value = entry.partition("=")
        if not equals or not key:
            raise UserError(f"--meta {entry!r} given; expected KEY=VALUE, as author=me")
        found[key if "." in key else f"modelspec.{key}"] = value
    return found

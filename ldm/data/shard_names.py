"""Expand a pattern of webdataset shards into file names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ldm.errors import UserError
from ldm.paths import (
    MISSING,
    at_home,
    folder_fault,
    is_file,
    is_folder,
    listing,
    matching,
    unreachable,
)

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)$")


def shard_files(shards: str | Sequence[str]) -> list[str]:
    """List the shards that one or several patterns name, in order, without duplicates.

    Args:
        shards: Paths with ``{00..12}`` and ``{a,b}`` as in a shell, and ``*``, ``?``, ``[...]``; a
            folder stands for its .tar files.

    Raises:
        UserError: A pattern matches no file, or names something that is not a local file.
    """
    patterns = [shards] if isinstance(shards, str) else list(shards)
    found = [path for pattern in patterns for path in _matches(pattern)]
    if not found:
        raise UserError("no shards given; expected paths of .tar files; set shards")
    return list(dict.fromkeys(found))


def _matches(pattern: str) -> list[str]:
    if re.match(r"[a-z0-9]+://|pipe:", pattern):
        raise UserError(
            f"shards {pattern!r} are not on disk; expected paths of .tar files; copy or mount them"
        )
    paths: list[str] = []
    for path in expand_braces(str(at_home(pattern))):
        if is_folder(path):
            matched = [str(found) for found in listing(path, "*.tar")]
        else:
            matched = [path] if is_file(path) else matching(path)
        if not matched:
            fault = folder_fault(path) if is_folder(path) else unreachable(path)
            why = "" if fault in (None, MISSING) else f" (it {fault})"
            raise UserError(
                f"no shard is called {path}{why}; expected .tar files; check the pattern"
            )
        paths += matched
    return paths


def expand_braces(pattern: str) -> list[str]:
    """Expand ``{00..12}``, keeping leading zeros, and ``{a,b}``.

    Example:
        >>> expand_braces("part-{08..10}.tar")
        ['part-08.tar', 'part-09.tar', 'part-10.tar']
    """
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [out for part in _parts(match[1]) for out in expand_braces(before + part + after)]


def _parts(inside: str) -> list[str]:
    limits = _RANGE.match(inside)
    if limits is None:
        return inside.split(",")
    first, last = limits.groups()
    return [str(k).zfill(len(first)) for k in range(int(first), int(last) + 1)]

"""The ``key: value, key: value`` lines of AUTOMATIC1111's text, read in linear time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from ldm.images.brackets import closing

# A key longer than 61 characters is prose.
_LONGEST_KEY = 61
KEY = re.compile(rf"\w[\w \-/]{{1,{_LONGEST_KEY - 1}}}")
# All that may be a key before a colon, looked at once: from its beginning, which no such letter
# precedes, to the colon.
_BEFORE_COLON = re.compile(r"(?<![\w \-/])[ \-/]*(\w[\w \-/]+):\s*")
_KEY_AT_END = re.compile(rf"{KEY.pattern}\Z")
_QUOTED = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")\s*(?:,|$)')
# Each bracket without an end costs a look at the rest of the line; after some there is none.
_LOOKS = 8


def entries_in(line: str) -> Iterator[tuple[str, str]]:
    """Yield the ``key: value`` pairs of a line, skipping everything else."""
    position, looks = 0, _LOOKS
    while found := _next_key(line, position):
        key, start = found
        if quoted := _QUOTED.match(line, start):
            yield key, _unquote(quoted[1])
            position = quoted.end()
            continue
        after = start
        # An unquoted list or JSON object: its commas and colons are its own.
        if looks and line[start : start + 1] in tuple("[{"):
            end = closing(line, start)
            looks -= end is None
            after = end or start
        comma = line.find(",", after)
        end = len(line) if comma < 0 else comma
        yield key, line[start:end].rstrip()
        position = end + 1


def _next_key(line: str, position: int) -> tuple[str, int] | None:
    """Return the first key at or after a position, and where its value begins."""
    while found := _BEFORE_COLON.search(line, position):
        if key := _KEY_AT_END.search(found[1][-_LONGEST_KEY:]):
            return key[0].strip(), found.end()
        position = found.end()
    return None


def _unquote(quoted: str) -> str:
    try:
        return json.loads(quoted)
    except ValueError:  # quoted by a program that does not escape as JSON does
        return quoted

"""Read a Dockerfile and a .dockerignore as Docker does, as far as this project's go."""

from __future__ import annotations

import re
from collections.abc import Sequence


def instructions(text: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions: (name in capitals, what follows it).

    Args:
        text: Continued lines are joined, comments left out.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0].upper(), line.split(None, 1)[1]) for line in joined.splitlines()]


def ignored(path: str, patterns: Sequence[str]) -> bool:
    """Return whether a file stays out of the build: the last pattern that fits decides.

    Args:
        path: From the root of the build, with slashes.
        patterns: The lines of a .dockerignore.

    Example:
        >>> ignored("a/b.txt", ["*", "!a", "**/*.txt"])
        True
        >>> ignored("a/b.md", ["*", "!a", "**/*.txt"])
        False
    """
    out = False
    for line in patterns:
        if line.strip() and not line.startswith("#"):
            pattern = line.strip().removeprefix("!").strip("/")
            if re.fullmatch(_expression(pattern) + r"(/.*)?", path):
                out = not line.startswith("!")
    return out


def _expression(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    known = {"**/": r"(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(known.get(part, re.escape(part)) for part in parts)

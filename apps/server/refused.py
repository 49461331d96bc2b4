"""What a client is told that does not get what it asked for: a status and one line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ldm.legible import one_line

_FLAG = re.compile(r"(?<![\w-])--([A-Za-z][\w-]*)")
_ABSOLUTE = re.compile(r"(?<![\w.:/])(?:/|[A-Za-z]:\\)[^\s'\",;)]+")
HIDDEN = "(a file of the server)"


class Refused(Exception):
    """A request that is not answered as asked.

    Args:
        status: The HTTP status, 400 to 599.
        text: One line: what was given, what is expected, what to do.
        retry_after: Seconds after which the same may be asked again; 0 says nothing.
    """

    def __init__(self, status: int, text: str, *, retry_after: int = 0) -> None:
        super().__init__(one_line(text))
        self.status, self.retry_after = status, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        return {"Retry-After": str(self.retry_after)} if self.retry_after else {}


def for_strangers(text: str, hidden: Iterable[Path | str] = ()) -> str:
    """Return a program's message as a client may read it: fields for flags, no place of the server.

    Args:
        text: The message.
        hidden: Paths that are not shown, also where they are relative.

    Example:
        >>> for_strangers("--init-img /srv/x.png is no file; change --ddim_steps")
        'init_img (a file of the server) is no file; change ddim_steps'
    """
    for path in sorted(map(str, hidden), key=len, reverse=True):
        text = text.replace(path, HIDDEN)
    text = _ABSOLUTE.sub(HIDDEN, text)
    return one_line(_FLAG.sub(lambda found: found[1].replace("-", "_"), text))

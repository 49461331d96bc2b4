"""How much memory the pictures take that requests bring: few are decoded at a time, few are kept.

A file of kilobytes may be a picture of many megabytes, and it is kept until it has been drawn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from fastapi.concurrency import run_in_threadpool

from apps.server.refused import Refused

READERS = 2  # requests whose pictures are decoded at a time
MOST_HELD = 2**28  # pixels of all requests' pictures together: 1 GB with their masks
_LATER, _SOON = 10, 2  # seconds

Read = TypeVar("Read")


class Holding:
    """The pictures of the requests that are being answered. For the event loop's thread.

    Args:
        most: Pixels of all of them together.
    """

    def __init__(self, most: int = MOST_HELD) -> None:
        self._most, self._held = most, 0
        self._readers, self._busy = asyncio.Semaphore(READERS), set[str]()

    async def read(self, read: Callable[[], Read]) -> Read:
        """Return what a function returns that decodes pictures; few do so at a time."""
        async with self._readers:
            return await run_in_threadpool(read)

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Let a key have one request at a time as long as the block lasts.

        Raises:
            Refused: It has one already.
        """
        if key in self._busy:
            raise Refused(
                429,
                "a picture of your key is being worked on; expected one at a time; try again later",
                retry_after=_SOON,
            )
        self._busy.add(key)
        try:
            yield
        finally:
            self._busy.discard(key)

    @contextlib.contextmanager
    def kept(self, pixels: int) -> Iterator[None]:
        """Count pixels among those that are kept as long as the block lasts.

        Raises:
            Refused: All together would be too many.
        """
        if pixels and self._held + pixels > self._most:
            raise Refused(
                429,
                f"pictures of {self._held / 1e6:.0f} megapixels wait to be worked on; expected "
                f"room for {pixels / 1e6:.1f} more; try again later, or send smaller ones",
                retry_after=_LATER,
            )
        self._held += pixels
        try:
            yield
        finally:
            self._held -= pixels

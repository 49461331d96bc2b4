"""Base class of data sets that skip bad files: another item replaces one that cannot be used.

Long runs meet truncated downloads, empty files and disks that disappear. These are counted and
give a warning; only a data set without any usable item is an error.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ldm.errors import UserError
from ldm.legible import legible
from ldm.rng import item_generator

logger = logging.getLogger(__name__)

MOST_IN_A_ROW = 1000
"""Items that may fail in a row before the whole data set counts as unreadable."""


class BadItem(Exception):
    """An item of a data set cannot be used; the message is its name and the reason, legible."""

    def __init__(self, message: str) -> None:
        super().__init__(legible(message))


class Tally:
    """Counts bad items over this process and all of a loader's workers.

    Args:
        source: Name of the data in warnings.
        places: Numbers shared between the processes; their sum is the count.
    """

    def __init__(self, source: str, places: Tensor | None = None):
        self.source = source
        self._places = torch.zeros(1, dtype=torch.int64) if places is None else places
        with contextlib.suppress(RuntimeError):  # no shared memory: each process counts its own
            self._places.share_memory_()

    @property
    def count(self) -> int:
        """The count so far; workers that count at the same moment may lose one."""
        return int(self._places.sum(dtype=torch.int64))

    def add(self, reason: str) -> None:
        """Count one more."""
        self._tell(reason)
        self._places += 1

    def _tell(self, reason: str) -> None:
        """Warn of the first one only: a thousand such lines would hide everything else."""
        if self.count:
            logger.debug("%s: left out: %s", self.source, reason)
        else:
            logger.warning(
                "%s: left out: %s; further bad items are only counted", self.source, reason
            )

    def summary(self) -> str:
        """Return a sentence with the count."""
        return f"{self.source}: {self.count} bad items were left out"


class BadItems(Tally):
    """The items of a data set that were found to be bad.

    Args:
        length: Items in the data set; a byte is shared for each.
        source: What the data set reads.
    """

    def __init__(self, length: int, source: str):
        super().__init__(source, torch.zeros(length, dtype=torch.uint8))

    def __contains__(self, index: int) -> bool:
        return bool(self._places[index])

    def note(self, index: int, reason: str) -> None:
        """Remember a bad item."""
        self._tell(reason)
        self._places[index] = 1

    def summary(self) -> str:
        """Return a sentence with the number of bad items and of all items."""
        return (
            f"{self.source}: {self.count} of {len(self._places)} items were bad; "
            "others took their places"
        )


class SkippingDataset(Dataset):
    """A data set of numbered items, of which some may turn out bad.

    A subclass sets up what ``item`` needs, then calls this constructor, which reads one item: a
    data set without items, or without readable ones, is refused before a run begins.

    A bad item is replaced by another, the same one each time. The record of bad items is shared
    with a loader's workers: ``bad_items.count``, ``bad_items.summary()``.

    Args:
        length: Items, 1 or more.
        source: Name of the data in messages.

    Raises:
        UserError: There are no items, or none can be read.
    """

    def __init__(self, length: int, *, source: str):
        if length < 1:
            raise UserError(
                f"{source} has no pictures to read; expected at least one; check the path"
            )
        self._length = length
        self.bad_items = BadItems(length, source)
        self._first_usable(0, np.random.default_rng(0))

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return an item; random choices are drawn from ``rng``.

        Raises:
            BadItem: It cannot be read or used.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -self._length <= index < self._length:
            raise IndexError(f"item {index} of {self._length}")
        return self._first_usable(index % self._length, item_generator())

    def _first_usable(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        reason = ""
        for number in substitutes(index, self._length):
            if number in self.bad_items:
                continue
            try:
                return self.item(number, rng)
            except BadItem as error:
                reason = str(error)
                self.bad_items.note(number, reason)
        last = f", the last as {reason}" if reason else ""
        raise UserError(
            f"{self.bad_items.source}: {min(self._length, MOST_IN_A_ROW)} items in a row cannot be "
            f"read{last}; usable ones are expected; check that the disk is there"
        )


def substitutes(index: int, length: int) -> Iterator[int]:
    """Yield an item's number, then those of its substitutes, far from each other.

    Neighbours in a folder are often all bad; steps of about 0.618 of the length leave the folder.
    """
    step = max(1, int(length * (math.sqrt(5) - 1) / 2))
    while math.gcd(step, length) > 1:
        step += 1
    for k in range(min(length, MOST_IN_A_ROW)):
        yield (index + k * step) % length

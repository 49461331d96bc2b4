"""Seed data sets' random choices (crops, flips) so that a resumed run repeats them exactly.

A choice depends on the run's seed and on the number of the sample in the run, not on how many
random numbers were drawn before, nor on the process or worker.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler


class NumberedSampler(Sampler[tuple[int, int]]):
    """Yield each sample's number in the run together with its index.

    Args:
        sampler: Yields indices.
        position: Returns how many samples all processes together have seen since the run began.
        rank: Number of this process.
        world: Number of processes.
    """

    def __init__(
        self, sampler: Sampler[int], position: Callable[[], int], rank: int = 0, world: int = 1
    ):
        self.sampler, self.position, self.rank, self.world = sampler, position, rank, world

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first = self.position() + self.rank
        for count, index in enumerate(self.sampler):
            yield first + count * self.world, index


class SeededItems(Dataset):
    """Seed torch, NumPy and Python separately for each item of a data set.

    Args:
        dataset: A data set with items by index.
        seed: The run's seed.
        purpose: Name of the set, so that two sets do not share their choices.
    """

    def __init__(self, dataset: Any, seed: int, purpose: str):
        self.dataset, self.seed, self.purpose = dataset, seed, purpose

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        number, index = place
        with _own_numbers(seed_of(self.seed, "item", self.purpose, number)):
            return self.dataset[index]


def seed_of(*parts: Any) -> int:
    """Make a seed of 56 bits from numbers and words."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


@contextmanager
def _own_numbers(seed: int) -> Iterator[None]:
    """Seed the CPU's global generators inside the block and restore them after it."""
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])

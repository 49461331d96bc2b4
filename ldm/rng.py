"""Sources of random numbers: one global stream, or one generator per image."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> int:
    """Seed Python, NumPy, and torch on the CPU and every accelerator.

    Programs call it after loading the model, so that building a model never changes the pictures.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return seed


def item_generator() -> np.random.Generator:
    """Return a generator for one item of a data set, for its crop, flip or noise.

    It is seeded by one draw from torch's global generator, which a loader seeds differently in each
    worker, and ``seed_everything`` in the main process. How much one item draws does not affect
    any other.
    """
    return np.random.default_rng(int(torch.randint(2**63 - 1, ())))


def keep_random_state(device: torch.device | str) -> Callable[[], None]:
    """Save the state of torch's global generators, the CPU's and that of ``device``.

    Returns:
        A function that restores the saved state each time it is called.
    """
    device = torch.device(device)
    own = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)
    place = (device,) if device.type == "cuda" else ()
    shared, state = torch.get_rng_state(), own and own.get_rng_state(*place)

    def restore() -> None:
        torch.set_rng_state(shared)
        if own is not None:
            own.set_rng_state(state, *place)

    return restore


class GlobalNoise:
    """The reference's source: torch's global generator of the target device.

    One draw serves the whole batch, so image k depends on the batch size.
    """

    def randn(
        self,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Draw standard normal numbers of ``shape`` on ``device``."""
        return torch.randn(tuple(shape), device=device, dtype=dtype)


class PartOfNoise(GlobalNoise):
    """Rows of what the global generator draws for a larger batch.

    Args:
        first: The first of them.
        total: The batch's.

    Example:
        >>> _ = seed_everything(7)
        >>> whole = GlobalNoise().randn((4, 2))
        >>> _ = seed_everything(7)
        >>> bool((PartOfNoise(1, 4).randn((2, 2)) == whole[1:3]).all())
        True
    """

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total = first, total

    def randn(
        self,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Draw standard normal numbers for the whole batch; return those of ``shape``."""
        drawn = super().randn((self.total, *shape[1:]), device, dtype)
        return drawn[self.first : self.first + shape[0]]


class PerImageNoise:
    """One CPU generator per image: row k of every draw comes from generator k alone.

    A picture then depends neither on the batch it is drawn in nor on the device.

    Example:
        >>> pair = PerImageNoise([7, 8]).randn((2, 4))
        >>> bool((pair[1] == PerImageNoise([8]).randn((1, 4))[0]).all())
        True
    """

    def __init__(self, seeds: Sequence[int]):
        self.seeds = list(seeds)
        self._generators = [torch.Generator("cpu").manual_seed(int(s)) for s in self.seeds]

    @classmethod
    def joined(cls, sources: Sequence[PerImageNoise]) -> PerImageNoise:
        """Return one source for the images of several; each goes on where it was."""
        made = cls([])
        made.seeds = [seed for source in sources for seed in source.seeds]
        made._generators = [each for source in sources for each in source._generators]
        return made

    def randn(
        self,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Draw ``shape``; its first side is the number of images.

        Raises:
            ValueError: The first side of ``shape`` is not the number of seeds.
        """
        if shape[0] != len(self._generators):
            raise ValueError(f"{shape[0]} rows asked of {len(self._generators)} per-image seeds")
        row = tuple(shape[1:])
        rows = torch.stack([torch.randn(row, generator=g) for g in self._generators])
        if torch.device(device).type == "cuda":
            # From other memory the copy would hold up the host until all queued steps are done.
            return rows.to(dtype).pin_memory().to(device, non_blocking=True)
        return rows.to(device=device, dtype=dtype)


NoiseSource = GlobalNoise | PerImageNoise

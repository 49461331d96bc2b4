"""Where random numbers come from: one global stream, or one generator per image."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> int:
    """Seed Python, NumPy, and torch on the CPU and every accelerator.

    Programs call it after the model is loaded, so that building a model never moves the pictures.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return seed


def item_generator() -> np.random.Generator:
    """Give a generator of its own to one item of a data set, for its crop, flip or noise.

    It is seeded by one draw from torch's global generator: a loader's workers seed that apart from
    each other, ``seed_everything`` in the main process, and how much an item draws moves no other.
    """
    return np.random.default_rng(int(torch.randint(2**63 - 1, ())))


def keep_random_state(device: torch.device | str) -> Callable[[], None]:
    """Remember where torch's global generators are, the CPU's and that of ``device``.

    Returns:
        A function that puts them back there, as often as it is called.
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
    """The reference's source: torch's global generator of the device the numbers are for.

    One draw serves the whole batch, so image k of a batch depends on the batch's size.
    """

    def randn(
        self,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Draw standard normal numbers of ``shape`` on ``device``."""
        return torch.randn(tuple(shape), device=device, dtype=dtype)


class PerImageNoise:
    """One CPU generator per image: row k of every draw comes from generator k alone.

    A picture is then the same whatever the batch it is drawn in, and on every device.

    Example:
        >>> pair = PerImageNoise([7, 8]).randn((2, 4))
        >>> bool((pair[1] == PerImageNoise([8]).randn((1, 4))[0]).all())
        True
    """

    def __init__(self, seeds: Sequence[int]):
        self.seeds = list(seeds)
        self._generators = [torch.Generator("cpu").manual_seed(int(s)) for s in self.seeds]

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
        rows = [torch.randn(row, generator=g) for g in self._generators]
        return torch.stack(rows).to(device=device, dtype=dtype)


NoiseSource = GlobalNoise | PerImageNoise

"""Running means of a batch's attention maps, in memory that does not grow with the steps.

Shapes: B rows of a batch, h w sides of a map, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ldm.modules.attention_control.moments import Moment
from ldm.modules.attention_control.sites import Site, nearest_rate
from ldm.pipelines.attention_files import res

COLUMNS = 10  # steps that are shown, at most


class _Mean:
    def __init__(self) -> None:
        self._sum, self._count = None, 0

    def add(self, maps: Tensor) -> None:
        self._sum = maps.float().clone() if self._sum is None else self._sum.add_(maps)
        self._count += 1

    def value(self) -> np.ndarray:
        return (self._sum / self._count).numpy()


class MeanMaps:
    """Means over steps and over the layers of one resolution, and of some steps alone.

    Args:
        sites: The layers of cross-attention.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self._rate = nearest_rate(sites)
        self._only_mid = all(site.place == "mid" for site in sites)
        self._means: dict[str, _Mean] = {}
        self._level = ""  # name of the maps that words are shown with
        self._at: dict[int, _Mean] = {}
        self._steps: set[int] = set()

    @property
    def steps_done(self) -> int:
        """How many steps were looked at."""
        return len(self._steps)

    def add(self, site: Site, moment: Moment, maps: Tensor) -> None:
        """Take a layer's maps (B, h, w, L) of one step."""
        name = res(site.side) if site.place != "mid" else f"middle_{res(site.side)}"
        self._means.setdefault(name, _Mean()).add(maps)
        self._steps.add(moment.number)
        if site.rate == self._rate and (site.place != "mid" or self._only_mid):
            self._level = name
            if moment.number in shown_steps(moment.total):
                self._at.setdefault(moment.number, _Mean()).add(maps)

    def means(self) -> dict[str, np.ndarray]:
        """Return the means, float32 (B, h, w, L): ``res016`` of down and up, ``middle_res008``."""
        return {name: mean.value() for name, mean in self._means.items()}

    def word_level(self) -> np.ndarray:
        """Return the mean (B, h, w, L) at the published resolution or the nearest there is."""
        return self._means[self._level].value()

    def at_steps(self) -> dict[int, np.ndarray]:
        """Return it at some steps alone, by their number from 0."""
        return {number: mean.value() for number, mean in self._at.items()}


def shown_steps(total: int) -> list[int]:
    """Return the numbers of at most ``COLUMNS`` steps, evenly spread, first and last included.

    Example:
        >>> shown_steps(50)
        [0, 5, 11, 16, 22, 27, 33, 38, 44, 49]
    """
    return sorted({round(at) for at in np.linspace(0, total - 1, min(total, COLUMNS))})

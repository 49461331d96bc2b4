"""Run layers over strips of rows, normalised by the statistics of the whole map.

A 3x3 convolution sees one row beyond a strip, so a strip needs a halo of only one row per side.
Norms couple all rows of a map: a tile that is normalised by its own statistics shifts in tone. So
here a layer runs over all strips before the next one begins, and while its strips are written the
mean and deviation of each channel are accumulated for the norm that follows.

When the layers run on an accelerator, the maps between them are kept on the host.

Shapes: C channels, H W the sides of a map; maps and strips have a batch of one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

logger = logging.getLogger(__name__)

STRIP = 2**23
"""Elements of a strip, in the larger of a layer's input and output: 16 MiB in half precision."""
PINNED = 2**29
"""Largest host map, in bytes, whose memory is page-locked: torch never frees such memory."""


@dataclass
class FeatureMap:
    """The map between two layers, and the statistics of each channel.

    Attributes:
        values: (1, C, H, W); rows are contiguous in memory, so that a strip is one block.
        count: Elements of a channel that the statistics cover.
        mean: Mean of each channel, (C,).
        squares: Sum of the squared deviations from the mean, (C,).
    """

    values: Tensor
    count: int = 0
    mean: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def observe(self, strip: Tensor) -> None:
        """Merge the statistics of a strip: Chan, Golub and LeVeque 1979, STAN-CS-79-773."""
        wide = strip.to(torch.promote_types(strip.dtype, torch.float32))
        mean = wide.mean(dim=(0, 2, 3))
        # In two passes, instead of torch.var_mean, which is five times slower on a CPU.
        squares = (wide - mean[:, None, None]).square_().sum(dim=(0, 2, 3))
        new = strip.shape[2] * strip.shape[3]
        total = self.count + new
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * (self.count * new / total)
        self.mean = self.mean + apart * (new / total)
        self.count = total

    def normaliser(self, norm: nn.GroupNorm) -> Callable[[Tensor], Tensor]:
        """Return a function that applies ``norm`` to a strip, with the whole map's statistics."""
        means = self.mean.view(norm.num_groups, -1)  # (G, C/G)
        mean = means.mean(dim=1, keepdim=True)
        variances = self.squares.view_as(means) / self.count + (means - mean) ** 2
        variance = variances.mean(dim=1, keepdim=True).expand_as(means).flatten()
        mean = mean.expand_as(means).flatten()
        weight, bias = norm.weight.to(mean), norm.bias.to(mean)

        def normalise(strip: Tensor) -> Tensor:
            if torch.is_autocast_enabled(strip.device.type):
                strip = strip.float()  # autocast computes group norms in float32
            # Batch norm in evaluation uses given statistics, float32 ones for half precision too.
            return F.batch_norm(strip, mean, variance, weight, bias, eps=norm.eps)

        return normalise


@dataclass(frozen=True)
class Strips:
    """Runs layers strip by strip.

    Attributes:
        device: Where to compute.
        rows: Rows of a strip without its halo; None for as many as ``STRIP`` elements hold.
    """

    device: torch.device
    rows: int | None = None

    def run(
        self,
        layer: Callable[..., Tensor],
        *sources: FeatureMap,
        channels: int,
        unit: tuple[int, int] = (1, 1),
        halo: int = 1,
        most: int | None = None,
        stay: bool = False,
    ) -> FeatureMap:
        """Run a layer over whole maps.

        Args:
            layer: Maps a strip of each source, halo included, to the same rows of the output.
                Its outermost rows are used only at the map's own border.
            *sources: Maps of equal sides; not modified.
            channels: C of the output.
            unit: Input rows per unit, and the output rows that they become.
            halo: Units that the layer sees beyond the strip on either side.
            most: Most rows of a strip, if the layer has a limit of its own.
            stay: Leave the output on the device.
        """
        height, width = sources[0].values.shape[2:]
        taken, given = unit
        units = height // taken
        step = self._units(sources[0].values.shape[1], channels, width, unit, most)
        result = None
        for start in range(0, units, step):
            stop, first = min(start + step, units), max(start - halo, 0)
            strips = [self._cut(s, slice(first * taken, (stop + halo) * taken)) for s in sources]
            out = layer(*strips)[:, :, (start - first) * given : (stop - first) * given]
            del strips
            if result is None:
                shape = (1, channels, units * given, out.shape[3])
                result = FeatureMap(self._space(shape, out.dtype, stay))
            result.observe(out)
            place = result.values[:, :, start * given : stop * given]
            place.copy_(out, non_blocking=self._ordered)
            del out  # else it would be kept in memory with the next strip
        return result

    @property
    def _ordered(self) -> bool:
        """Whether the device's own queue orders the copies in both directions."""
        return self.device.type == "cuda"

    def _cut(self, source: FeatureMap, rows: slice) -> Tensor:
        return source.values[:, :, rows].to(self.device, non_blocking=self._ordered)

    def _units(
        self, before: int, after: int, width: int, unit: tuple[int, int], most: int | None
    ) -> int:
        """Return the number of units in a strip, at least one."""
        larger = max(unit)
        row = max(before, after) * width * larger // unit[0]
        rows = STRIP // row if self.rows is None else self.rows
        rows = rows if most is None else min(rows, most)
        return max(1, rows // larger)

    def _space(self, shape: tuple[int, ...], dtype: torch.dtype, stay: bool) -> Tensor:
        """Return memory for a map: on the host, unless the map is no larger than a strip."""
        elements = torch.Size(shape).numel()
        away = self.device.type not in ("cpu", "meta") and not stay and elements > STRIP
        pin = away and torch.cuda.is_available() and elements * dtype.itemsize <= PINNED
        space = partial(
            torch.empty,
            shape,
            dtype=dtype,
            device="cpu" if away else self.device,
            memory_format=torch.channels_last,
        )
        if pin:
            try:
                return space(pin_memory=True)
            except RuntimeError as error:  # systems limit the amount of such memory
                logger.warning("no page-locked memory (%s): strips move more slowly", error)
        return space()

"""Several prompts in one walk, each computed as if it were drawn alone.

A batch is laid out in columns, [all pictures of the first prompt, all of the second, ...]. They
start from the same noise and see the same random numbers. The model is called for one column after
another, each time with the rows that a run of that prompt alone would give it: so the first
column is that run's picture to the bit, whatever the others do.

Shapes: P prompts, n pictures of each, B = P n rows; the model is given one or more parts of B rows.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.models.diffusion.sampler import Sampler
from ldm.modules.attention_control.moments import rows_in_turn
from ldm.process.stepwise_guidance import mapped
from ldm.rng import NoiseSource
from ldm.types import Conditioning, EpsModel, SamplerState


class ColumnModel:
    """A model that is called for one column after another.

    Args:
        model: What predicts.
        columns: P.
        pictures: n.
    """

    def __init__(self, model: EpsModel, columns: int, pictures: int) -> None:
        self._model, self.columns, self.pictures = model, columns, pictures

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def apply_model(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Predict, (parts B, C, h, w), (parts B,) -> (parts B, C, h, w)."""
        outputs: Tensor | None = None
        for rows in self._rows(len(x)):
            index = torch.tensor(rows, device=x.device)
            with rows_in_turn(rows, len(x)):
                part = self._model.apply_model(x[index], t[index], taken(cond, index, len(x)))
            if outputs is None:
                outputs = part.new_empty((len(x), *part.shape[1:]))
            outputs[index] = part
        return outputs

    def _rows(self, total: int) -> Iterator[list[int]]:
        """Yield the rows of each column, those of all parts together."""
        batch = self.columns * self.pictures
        for column in range(self.columns):
            first = column * self.pictures
            yield [
                row
                for part in range(0, total, batch)
                for row in range(part + first, part + first + self.pictures)
            ]


class ColumnNoise:
    """Random numbers of one column, the same for all of them.

    Args:
        noise: Where they come from.
        columns: P.
    """

    def __init__(self, noise: NoiseSource, columns: int) -> None:
        self.noise, self.columns = noise, columns

    def randn(
        self,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Draw for one column, and repeat: (B, ...); a draw of one row is for all rows."""
        rows, *rest = shape
        if rows == 1:
            return self.noise.randn(shape, device, dtype)
        drawn = self.noise.randn((rows // self.columns, *rest), device, dtype)
        return repeated(drawn, self.columns)


class ColumnSampler:
    """A sampler whose walks take the start of one column and draw all of them.

    Args:
        sampler: With its schedule made.
        columns: P.
        pictures: n.
    """

    def __init__(self, sampler: Sampler, columns: int, pictures: int) -> None:
        self._sampler, self.columns = copy.copy(sampler), columns
        self._sampler.model = ColumnModel(sampler.model, columns, pictures)

    @property
    def steps(self) -> int:
        """How many steps a full walk takes."""
        return self._sampler.steps

    def stochastic_encode(self, *args: Any, **kwargs: Any) -> Tensor:
        """Noise the clean samples of one column, as the sampler does."""
        return self._sampler.stochastic_encode(*args, **kwargs)

    def walk(self, x: Tensor, *, noise: NoiseSource, **given: Any) -> Iterator[SamplerState]:
        """Walk from ``x`` (n, C, h, w), yielding states of B rows; see ``Sampler.walk``."""
        if given.get("x0") is not None:
            given["x0"] = repeated(given["x0"], self.columns)
        start = repeated(x, self.columns)
        return self._sampler.walk(start, noise=ColumnNoise(noise, self.columns), **given)


def repeated(x: Tensor, times: int) -> Tensor:
    """Return x (n, ...) ``times`` times in a row: (times n, ...)."""
    return x.repeat(times, *(1,) * (x.ndim - 1))


def taken(cond: Conditioning, index: Tensor, total: int) -> Conditioning:
    """Return the rows of a conditioning of ``total`` rows that ``index`` names."""
    return mapped(lambda part: part[index] if len(part) == total else part, cond)

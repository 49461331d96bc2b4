"""What a sweep draws: a cell for each combination of its axes' values. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from ldm.errors import UserError
from ldm.settings.generation import GenerationSettings
from ldm.sweeps.axes import Axis

MOST_CELLS = 1000
NAMES = ("x", "y", "z")


@dataclass(frozen=True)
class Cell:
    """One combination.

    Attributes:
        place: Its number along x, y and z.
        settings: What it draws.
    """

    place: tuple[int, int, int]
    settings: GenerationSettings


@dataclass(frozen=True)
class Sweep:
    """A sweep along up to three axes.

    Attributes:
        axes: x to the right, y down, z from one block of the sheet to the next; None is one that
            there is not.
        cells: All combinations: x fastest, then y, then z.
    """

    axes: tuple[Axis | None, Axis | None, Axis | None]
    cells: tuple[Cell, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many values there are along x, y and z."""
        return tuple(1 if axis is None else len(axis) for axis in self.axes)

    def labels(self, which: int) -> list[str]:
        """Return the labels along an axis, 0 for x; one empty text where there is no such axis."""
        axis = self.axes[which]
        return [""] if axis is None else [f"{axis.name}: {label}" for label in axis.labels]

    def values_at(self, place: tuple[int, int, int]) -> dict[str, str]:
        """Return the values at a place as they were typed, by the names of the axes."""
        numbered = zip(NAMES, self.axes, place, strict=True)
        return {
            f"{name}: {axis.name}": axis.labels[number]
            for name, axis, number in numbered
            if axis is not None
        }

    def fault_at(self, place: tuple[int, int, int], error: UserError) -> UserError:
        """Return an error with the values at its place named."""
        where = ", ".join(f"{key} {value}" for key, value in self.values_at(place).items())
        return UserError(f"of the sweep, at {where}: {error}")


def plan_sweep(base: GenerationSettings, axes: Sequence[Axis | None]) -> Sweep:
    """Lay out a sweep, and check every combination.

    Args:
        base: What all cells have in common; prompts are as they were typed.
        axes: x, y and z; those at the end may be left out. They change the settings in this order.

    Raises:
        UserError: There is no axis, two are of one setting, there are too many combinations, or
            one of them is impossible.

    Example:
        >>> from ldm.settings.generation import Txt2ImgSettings
        >>> from ldm.sweeps.axes import read_axis
        >>> axis = read_axis("seed: 1-3", Txt2ImgSettings)
        >>> [cell.settings.seed for cell in plan_sweep(Txt2ImgSettings(), [axis]).cells]
        [1, 2, 3]
    """
    filled = (*axes, *[None] * (len(NAMES) - len(axes)))
    _check(filled)
    sweep = Sweep(filled, ())
    return Sweep(filled, tuple(_cells(sweep, base)))


def _check(axes: Sequence[Axis | None]) -> None:
    there = [axis for axis in axes if axis is not None]
    if not there:
        raise UserError('no axis was given; expected one or more; add --x "scale: 2-21 [7]"')
    names = [axis.name for axis in there if axis.name != "prompt"]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(
            f"{min(twice)} was given for two axes; expected a different setting for each; "
            "change one of them"
        )
    count = prod(len(axis) for axis in there)
    if count > MOST_CELLS:
        raise UserError(
            f"axes of {' times '.join(str(len(axis)) for axis in there)} values were given, "
            f"{count} pictures; expected at most {MOST_CELLS}; give fewer values"
        )


def _cells(sweep: Sweep, base: GenerationSettings) -> Iterator[Cell]:
    columns, rows, blocks = map(range, sweep.shape)
    for z, y, x in product(blocks, rows, columns):
        place = (x, y, z)
        settings = base
        for axis, number in zip(sweep.axes, place, strict=True):
            if axis is not None:
                settings = axis.applied(settings, number)
        try:
            settings.validate()
        except UserError as error:
            raise sweep.fault_at(place, error) from error
        yield Cell(place, settings)

"""Where a sampler is: which step, at which model time, and what each row of a batch stands for.

Samplers tell it here; attention control and adapters listen. While nobody listens it costs nothing.
Imports no torch.

Shapes: B pictures of a walk; a model is given parts of B rows each, such as [uncond, cond].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from weakref import ref

from ldm.errors import UserError


class Row(NamedTuple):
    """What a row of the model's batch stands for.

    Attributes:
        part: ``cond``, ``uncond``, or another part that a guider lays out.
        picture: Number of the row in the sampler's batch, 0 ... B - 1.
    """

    part: str
    picture: int


@dataclass(frozen=True)
class Moment:
    """A moment of a walk. Outside of a walk the numbers are None.

    Attributes:
        number: Steps done before this one: 0 for the first.
        total: Steps of the whole walk.
        time: Model time, on the scale 0 ... num_timesteps - 1.
        evaluation: Calls of the model in this step before the present one; some samplers make two.
    """

    number: int | None = None
    total: int | None = None
    time: float | None = None
    evaluation: int = 0

    @property
    def is_last(self) -> bool:
        """Whether no step follows."""
        return self.number is not None and self.number + 1 == self.total

    def require_walk(self) -> Moment:
        """Return this moment if it is one of a walk.

        Raises:
            UserError: Nobody said which step it is.
        """
        if self.number is None or self.total is None:
            raise UserError(
                "the model was called outside of a sampler's walk; expected the number of the step,"
                " which this controller needs; draw with a sampler of ldm, or say it in a loop of"
                " your own: with control.at(number, total): ..."
            )
        return self


class Listener(Protocol):
    """Who is told about the walks of a model. One that controls attention has a ``controller``.

    One with ``before_step`` and ``after_step``, as a ``Controller`` has them, moves samples.
    """

    unet: Any
    moment: Moment

    def tell(
        self, moment: Moment, pictures: int | None, layout: Sequence[str] | None = None
    ) -> None:
        """Learn which step begins or which call follows; ``layout`` None is unknown."""


class Listeners:
    """Who listens, in the order in which they came. Those that nobody else holds are forgotten.

    A model that is dropped with its adapters on goes with them.
    """

    def __init__(self) -> None:
        self._held: list[ref[Listener]] = []

    def append(self, listener: Listener) -> None:
        """Tell one more, for as long as somebody holds it."""
        self._held.append(ref(listener, self._held.remove))

    def remove(self, listener: Listener) -> None:
        """Tell one no more."""
        self._held.remove(ref(listener))

    def __iter__(self) -> Iterator[Listener]:
        return iter([found for each in self._held if (found := each()) is not None])

    def __len__(self) -> int:
        return len(self._held)


LISTENERS = Listeners()
_ROWS: ContextVar[tuple[Sequence[int], int] | None] = ContextVar("rows_of_call", default=None)
"""Which rows of a batch the present call sees, and how many the batch has."""


def unet_of(model: Any) -> Any:
    """Return the UNet of a hub, of its wrapper, or the UNet itself; None if there is none."""
    for path in (("model", "diffusion_model"), ("diffusion_model",), ()):
        found = model
        for name in path:
            found = getattr(found, name, None)
        if hasattr(found, "input_blocks"):
            return found
    return None


def listeners_of(model: Any) -> list[Listener]:
    """Return who listens to a model's walks: nobody, as a rule."""
    if not LISTENERS:
        return []
    unet = unet_of(model)
    return [each for each in LISTENERS if each.unet is unet]


def control_of(model: Any) -> Any:
    """Return who has charge of a model's attention, or None."""
    return next((each for each in listeners_of(model) if hasattr(each, "controller")), None)


def stepping(model: Any) -> list[Any]:
    """Return who may move a model's samples before and after a step: see ``Controller``.

    The one that has charge of its attention, and listeners with a ``before_step`` of their own.
    """
    able = [getattr(each, "controller", each) for each in listeners_of(model)]
    return [each for each in able if hasattr(each, "before_step")]


class Follower:
    """Knows where the walks of a model are, from ``follow`` to ``leave``.

    Args:
        model: A hub, its wrapper or the UNet.
        at_end: Called when a walk is over, at its end or before.

    Attributes:
        unet: The UNet whose walks it follows.
        moment: The step that is under way; without numbers outside of a walk.
    """

    def __init__(self, model: Any, at_end: Callable[[], None] | None = None) -> None:
        self.unet, self.moment = unet_of(model), Moment()
        self._at_end = at_end
        self._pictures: int | None = None
        self._layout: Sequence[str] | None = None

    def follow(self) -> None:
        """Listen from now on."""
        LISTENERS.append(self)

    def leave(self) -> None:
        """Listen no more."""
        if self in LISTENERS:
            LISTENERS.remove(self)

    def tell(
        self, moment: Moment, pictures: int | None, layout: Sequence[str] | None = None
    ) -> None:
        """Learn which step begins or which call follows; see ``Listener``."""
        ended = moment.number is None and self.moment.number is not None
        self.moment, self._pictures, self._layout = moment, pictures, layout
        if ended and self._at_end is not None:
            self._at_end()

    def rows(self, count: int) -> list[Row]:
        """Return what the ``count`` rows of the present call stand for; see ``rows_of_call``."""
        return rows_of_call(count, self._pictures, self._layout)


@contextmanager
def rows_in_turn(rows: Sequence[int], total: int) -> Iterator[None]:
    """Say that inside the block the model sees these rows of its ``total`` only.

    Blocks may be nested: numbers then count within the outer block's rows.
    """
    outer = _ROWS.get()
    token = _ROWS.set((rows, total) if outer is None else ([outer[0][r] for r in rows], outer[1]))
    try:
        yield
    finally:
        _ROWS.reset(token)


def present_rows(count: int) -> Sequence[int]:
    """Return which rows of the whole batch the ``count`` rows of the present call are."""
    present, _ = _ROWS.get() or (range(count), count)
    return present if len(present) == count else range(count)


def rows_of_call(count: int, pictures: int | None, layout: Sequence[str] | None) -> list[Row]:
    """Return what the rows of the present call stand for.

    Args:
        count: How many there are.
        pictures: B; None where no walk is under way: every row is then a picture, conditional.
        layout: The parts that the guider lays out; None takes the reference's [uncond, cond], or
            [cond] alone.

    Raises:
        UserError: The number of rows tells neither.
    """
    present, total = _ROWS.get() or (range(count), count)
    if len(present) != count:
        present, total = range(count), count
    if pictures is None:
        return [Row("cond", row) for row in present]
    if layout is None:
        layout = {pictures: ("cond",), 2 * pictures: ("uncond", "cond")}.get(total)
    if layout is None or total != pictures * len(layout):
        found = "an unknown layout" if layout is None else f"the layout {tuple(layout)}"
        raise UserError(
            f"a guider lays out {total} rows for {pictures} pictures, with {found}; attention"
            " control must know what they stand for; give the guider an attribute layout that"
            ' names each part, such as ("uncond", "cond")'
        )
    return [Row(layout[row // pictures], row % pictures) for row in present]

"""A step's arithmetic, put off until all of it is known: what is done, and apart from it, numbers.

A step rule is plain Python. Given a ``Later`` in place of its samples it runs as ever, and nothing
is computed: each operation is an entry on a ``Tape``, and the numbers in it, which differ from step
to step, are a list beside it. Steps with the same entries are the same work on other numbers.
Whatever a tape does not know, such as a look at a value, computes what was put off, and the rule
goes on with tensors. The same operations in the same order either way.

Shapes: B batch, C channels, h w latent sides.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

Operand = tuple[str, int]
"""``input``, ``entry``, ``number`` or ``divisor``, and which of them."""


class Ask(Protocol):
    """A guided call of a model, as an entry. Those that do the same are equal and hash alike."""

    def __call__(self, *operands: Tensor) -> Tensor:
        """Call the model on samples (B,C,h,w), times (B,) and tensors of the conditioning."""

    def __hash__(self) -> int:
        """Return the same for what does the same."""


class Entry(NamedTuple):
    """An operation, a type of elements to convert to or a model to ask; and what it is given."""

    does: Callable[..., Tensor] | torch.dtype | Ask
    operands: tuple[Operand, ...]


class Work(NamedTuple):
    """The entries of a step, and those whose results are kept."""

    entries: tuple[Entry, ...]
    kept: tuple[int, ...]

    def results(
        self, given: dict[str, Sequence[Any]], do: Callable[..., Tensor]
    ) -> tuple[Tensor, ...]:
        """Do the work; return what is kept.

        Args:
            given: Inputs and numbers, by kind of operand.
            do: Carries out an entry with its operands.
        """
        found: list[Tensor] = []
        given = {**given, "entry": found}
        for does, operands in self.entries:
            found.append(do(does, *(given[kind][k] for kind, k in operands)))
        return tuple(found[k] for k in self.kept)


class Later:
    """Samples (B,C,h,w) that a tape has yet to compute, or has computed by now.

    Attributes:
        at: Its entry.
        dtype: Its type of elements.
        value: The samples, once they are there.
    """

    __slots__ = ("__weakref__", "at", "dtype", "tape", "value")
    __array_ufunc__ = None  # numpy's numbers leave the operation to this class
    __hash__ = object.__hash__

    def __init__(self, tape: Tape, at: int, dtype: torch.dtype, value: Tensor | None = None):
        self.tape, self.at, self.dtype, self.value = tape, at, dtype, value

    @property
    def shape(self) -> torch.Size:
        """(B,C,h,w)."""
        return self.tape.like.shape if self.value is None else self.value.shape

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.tape.like.device if self.value is None else self.value.device

    def __len__(self) -> int:
        return self.shape[0]

    def to(self, *wanted: Any, **more: Any) -> Later | Tensor:
        """Convert; to a type of elements it is put off."""
        if more or len(wanted) != 1 or not isinstance(wanted[0], torch.dtype):
            return real(self).to(*map(real, wanted), **more)
        return self if wanted[0] == self.dtype else self.tape.put(wanted[0], self)

    def __getattr__(self, name: str) -> Any:
        return getattr(real(self), name)

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func in PUT_OFF and len(args) == 2 and not kwargs:
            tape = next(each.tape for each in args if isinstance(each, Later))
            return tape.put(PUT_OFF[func], *args)
        return func(*tree_map(real, args), **tree_map(real, kwargs or {}))


OPERATIONS = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
}
PRODUCTS = (operator.mul, operator.truediv)
HALF = (torch.float16, torch.bfloat16)
PUT_OFF = {
    getattr(owner, name.removeprefix("true")): operation
    for owner in (torch, Tensor)
    for name, operation in OPERATIONS.items()
}
"""What is put off, by the function that torch calls it."""
AT_ONCE = (
    *("getitem", "setitem", "iter", "contains", "neg", "pos", "abs", "pow", "rpow", "matmul"),
    *("floordiv", "mod", "bool", "int", "float", "index", "lt", "le", "gt", "ge", "eq", "ne"),
)
"""Operators that need the samples."""


def _put(operation: Callable) -> tuple[Callable, Callable]:
    def left(self: Later, other: Any) -> Any:
        return self.tape.put(operation, self, other)

    def right(self: Later, other: Any) -> Any:
        return self.tape.put(operation, other, self)

    return left, right


def _at_once(name: str) -> Callable:
    return lambda self, *others: getattr(real(self), name)(*map(real, others))


for _name, _operation in OPERATIONS.items():
    for _side, _method in zip(("", "r"), _put(_operation), strict=True):
        setattr(Later, f"__{_side}{_name}__", _method)
for _name in AT_ONCE:
    setattr(Later, f"__{_name}__", _at_once(f"__{_name}__"))


def real(value: Any) -> Any:
    """Return the samples of a ``Later``, computed if they were put off; anything else as it is."""
    if not isinstance(value, Later):
        return value
    # Also what is there already: whoever looks at it may write to it.
    value.tape.compute()
    return value.value


class Tape:
    """What one step puts off.

    Args:
        do: Carries out an entry with its operands, where the step is not recorded.

    Attributes:
        like: The samples that the step begins with; None between steps.
        inputs: Tensors that the entries are given.
        numbers: Numbers that they are given.
    """

    def __init__(self, do: Callable[..., Tensor]) -> None:
        self._do = do
        self._clear()

    def _clear(self) -> None:
        self.like: Tensor | None = None
        self.inputs: list[Tensor] = []
        self.numbers: list[Any] = []
        self._entries: list[Entry] = []
        self._made: list[weakref.ref[Later]] = []

    @contextmanager
    def step(self, x: Tensor) -> Iterator[Later]:
        """Return a context in which a step's arithmetic from ``x`` (B,C,h,w) is put off."""
        self._clear()
        self.like = x
        try:
            yield Later(self, -1, x.dtype, x)
        finally:
            self._clear()

    def put(self, does: Any, *operands: Any, dtype: torch.dtype | None = None) -> Later | Tensor:
        """Put an entry off; what cannot be is done at once.

        Args:
            does: See ``Entry``.
            *operands: Tensors, ``Later``s and numbers.
            dtype: The type of elements of its result, where that does not follow from the operands.
        """
        given = [each.value if _is_there(each) else each for each in operands]
        if self.like is None or (dtype is None and not self._can(does, given)):
            return self._do(does, *map(real, operands))
        if dtype is None:
            kinds = ["number", "divisor" if does is operator.truediv else "number"]
            placed = [self._place(*pair) for pair in zip(given, kinds, strict=False)]
        else:
            placed = [self._place(each) for each in given]
        later = Later(self, len(self._entries), dtype or _dtype_of(does, given))
        self._entries.append(Entry(does, tuple(placed)))
        self._made.append(weakref.ref(later))
        return later

    def _can(self, does: Any, given: Sequence[Any]) -> bool:
        """Check whether an operation can be put off."""
        if not all(map(self._fits, given)):
            return False
        if does in PRODUCTS or not any(map(_is_number, given)):
            return True
        # Devices differ in how they round a sum of half precision with a number.
        return all(_is_number(each) or each.dtype not in HALF for each in given)

    def _fits(self, each: Any) -> bool:
        """Check whether an operand is a number, or samples of the step's own shape."""
        if _is_number(each) or isinstance(each, Later):
            return True
        same = isinstance(each, Tensor) and each.shape == self.like.shape
        return same and each.device == self.like.device and each.is_floating_point()

    def _place(self, each: Any, kind: str = "input") -> Operand:
        """Return which operand it is; ``kind`` is what it is if it is a number."""
        if isinstance(each, Later):
            return "entry", each.at
        if kind != "input" and _is_number(each):
            self.numbers.append(each)
            return kind, len(self.numbers) - 1
        for k, known in enumerate(self.inputs):
            if known is each:
                return "input", k
        self.inputs.append(each)
        return "input", len(self.inputs) - 1

    def work(self) -> Work:
        """Return the step's work; the results kept are those that somebody still holds."""
        kept = tuple(k for k, made in enumerate(self._made) if made() is not None)
        return Work(tuple(self._entries), kept)

    def fill(self, results: Sequence[Tensor]) -> None:
        """Give the results of ``work`` to who holds them; nothing more is put off."""
        held = [later for made in self._made if (later := made()) is not None]
        for later, result in zip(held, results, strict=True):
            later.value = result
        self._clear()

    def compute(self) -> None:
        """Compute what was put off, one operation after the other; nothing more is put off."""
        if self.like is not None:
            given = {"input": self.inputs, "number": self.numbers, "divisor": self.numbers}
            self.fill(self.work().results(given, self._do))


def do(does: Any, *operands: Any) -> Tensor:
    """Carry out an entry with its operands."""
    return operands[0].to(does) if isinstance(does, torch.dtype) else does(*operands)


def key_of(tensors: Sequence[Tensor]) -> Hashable:
    """Return what tensors have in common that the same work can be done on."""
    return tuple((t.shape, t.dtype, t.stride(), t.device) for t in tensors)


def _is_there(each: Any) -> bool:
    return isinstance(each, Later) and each.value is not None


def _is_number(each: Any) -> bool:
    """Check for what torch takes for a number: its own and those in tensors without dimensions."""
    if isinstance(each, Tensor):
        return each.ndim == 0 and each.device.type == "cpu"
    return isinstance(each, (int, float))


def _dtype_of(does: Any, operands: Sequence[Any]) -> torch.dtype:
    if isinstance(does, torch.dtype):
        return does
    found = [each.dtype for each in operands if not _is_number(each)]
    return found[0] if len(found) == 1 else torch.promote_types(*found)

"""Read the pickle of a torch file: tensors as descriptions, everything else inert. No torch.

A pickle names importable things ("globals") and calls them. Here a name is handled in one of three
ways, and never imported:

* the few that rebuild tensors and plain containers: functions of this file, which describe a tensor
  and make none. Only when the whole pickle is read are descriptions checked against the bytes that
  are there (``ldm.checkpoint.torch_files``), and only then do they become tensors;
* what training checkpoints are known to hold (Lightning's and OmegaConf's objects, numpy scalars,
  ...; see ``known_names``) and classes of other packages: inert values;
* anything else (``os.system``, ``builtins.eval``, ``torch.hub.load``, ...): ``RefusedGlobal``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ldm.budgets import QUOTED
from ldm.checkpoint.element_types import ELEMENT_TYPES, STORAGES
from ldm.checkpoint.known_names import may_be_made, may_be_named, python3_name
from ldm.checkpoint.pickle_machine import Held, Inert, Ordered, PickleFault, run
from ldm.legible import quoted

_PARTS = re.compile(r"\.|, ")
# Embeddings of the first textual inversions are in one.
_PARAMETERS = ("torch.nn.modules.container", "ParameterDict")


class RefusedGlobal(PickleFault):
    """The pickle asks for something that could run code; ``name`` is its dotted path."""

    def __init__(self, name: str):
        plain = len(name) <= QUOTED and all(part.isidentifier() for part in _PARTS.split(name))
        self.name = name if plain else quoted(name)
        super().__init__(f"refused to import {self.name}")


class StoredBytes:
    """A storage: where its bytes are, once the file says so.

    Attributes:
        key: Its name in the file.
        element: Its numbers' type; "uint8" where the storage is of bytes.
        count: How many numbers it has.
    """

    __slots__ = ("count", "element", "key")

    def __init__(self, key: str, element: str, count: int) -> None:
        self.key, self.element, self.count = key, element, count


class StoredTensor:
    """A tensor that is not made: numbers of a storage, and how they are laid out.

    Attributes:
        storage: The storage.
        element: The numbers' type.
        offset: The first number, counted in numbers.
        shape, stride: Each of one whole number >= 0 per axis.
    """

    __slots__ = ("element", "offset", "shape", "storage", "stride")

    def __init__(self, storage: StoredBytes, element: str, offset: Any, shape: Any, stride: Any):
        self.storage, self.element, self.offset = storage, element, offset
        self.shape, self.stride = shape, stride


class ElementType(NamedTuple):
    """A type of numbers that a pickle names: ``torch.float32``."""

    name: str


class Named:
    """Stands for a class that is named and not imported."""

    __slots__ = ("made", "module", "name")

    def __init__(self, module: str, name: str, *, made: bool):
        self.module, self.name, self.made = module, name, made


class _Function:
    """A function of this file that a pickle may call, and do nothing else with."""

    __slots__ = ("act", "path")

    def __init__(self, act: Callable, path: str):
        self.act, self.path = act, path


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
    """Describe a tensor; hooks and metadata that may follow are dropped."""
    if not isinstance(storage, StoredBytes):
        raise PickleFault("a tensor without a storage")
    return _described(storage, storage.element, offset, size, stride)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> StoredTensor:
    """Like ``_rebuild_tensor`` for element types that have no storage class of their own."""
    if not isinstance(storage, StoredBytes) or not isinstance(dtype, ElementType):
        raise PickleFault("a tensor without a storage")
    return _described(storage, dtype.name, offset, size, stride)


def _described(storage: StoredBytes, element: str, offset: Any, size: Any, stride: Any):
    if ELEMENT_TYPES.get(element) is None:
        raise PickleFault(f"a tensor of {element}, which is not read")
    for axes in (size, stride, (offset,)):
        if type(axes) is not tuple or any(type(n) is not int or not 0 <= n < 2**62 for n in axes):
            raise PickleFault("a tensor of impossible shape")
    if len(size) != len(stride) or len(size) > 64:
        raise PickleFault("a tensor of impossible shape")
    return StoredTensor(storage, element, offset, size, stride)


def _first(data: Any, *_: Any) -> Any:
    """``_rebuild_parameter(data, ...)`` is its data."""
    return data


def _rebuild_subclass(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    """Rebuild a tensor subclass as the plain tensor beneath it."""
    tensors = (_rebuild_tensor, _rebuild_tensor_v3)
    if not (isinstance(function, _Function) and function.act in tensors):
        raise PickleFault("a tensor with a constructor of its own")
    return function.act(*arguments)


def _ordered(pairs: Any = ()) -> Ordered:
    """``OrderedDict()``, or of pairs, as Python 2 wrote it."""
    if any(type(pair) not in (list, tuple) or type(pair[0]) not in (int, str) for pair in pairs):
        raise PickleFault("an OrderedDict of something else than pairs")
    return Ordered(map(tuple, pairs))


def _type_of(*arguments: Any) -> Named:
    """``type(None)``, by which that type is pickled, and nothing else."""
    if len(arguments) == 1 and (arguments[0] is None or isinstance(arguments[0], Named)):
        return Named("types", "NoneType", made=False)
    raise RefusedGlobal("builtins.type")


def _size(axes: Any = ()) -> tuple:
    if type(axes) not in (list, tuple):
        raise PickleFault("a torch.Size of something else than numbers")
    return tuple(axes)


REBUILDERS: dict[tuple[str, str], Callable] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_subclass,
    ("torch", "Size"): _size,
    ("collections", "OrderedDict"): _ordered,
    ("builtins", "type"): _type_of,
}


def _attribute(*arguments: Any) -> Named | None:
    """Stand in for ``getattr``, by which protocols 2 and 3 name a class within a class."""
    owner, name = arguments if len(arguments) == 2 else (None, None)
    if not (isinstance(owner, Named) and isinstance(name, str)):
        return None
    made = owner.made and name[:1].isupper()
    return Named(owner.module, f"{owner.name}.{name}", made=made)


def _subscripted(*arguments: Any) -> Named | None:
    """Stand in for ``operator.getitem``, by which ``Dict[str, int]`` is pickled."""
    owner = arguments[0] if len(arguments) == 2 else None
    known = isinstance(owner, Named) and owner.module == "typing"
    return Named("typing", owner.name, made=False) if known else None


# Functions that pickles of harmless objects call on inert values; of anything else they are refused
# (the stand-in returns None), and so they are as values.
STAND_INS: dict[tuple[str, str], Callable] = {
    ("builtins", "getattr"): _attribute,
    ("operator", "getitem"): _subscripted,
    ("_operator", "getitem"): _subscripted,
}


def kind_of(value: Any) -> str:
    """Name the kind of a value that a file holds, for messages."""
    if isinstance(value, Inert):
        return quoted(value.kind)[1:-1]
    if isinstance(value, Named):
        return f"class {quoted(f'{value.module}.{value.name}')[1:-1]}"
    return {StoredTensor: "Tensor", StoredBytes: "storage", Ordered: "OrderedDict"}.get(
        type(value), type(value).__name__
    )


class Unpickled:
    """What one pickle holds, and what it asked for; a ``Reader`` of ``pickle_machine``.

    Attributes:
        content: What the pickle leaves; set by ``read``.
        storages, tensors: Everything of these kinds that was described, used or not.
        stubbed: Dotted paths of what was named and not imported.
    """

    def __init__(self) -> None:
        self.content: Any = None
        self.storages: list[StoredBytes] = []
        self.tensors: list[StoredTensor] = []
        self.stubbed: set[str] = set()
        # Stand-ins named and not called yet, in the file's order.
        self._pending: dict[str, None] = {}

    @classmethod
    def read(cls, source: Any) -> Unpickled:
        """Read one pickle from an open file or a ``Window``.

        Raises:
            RefusedGlobal: It asks for something that could run code.
            PickleFault: It is damaged, forged, or claims too much.
        """
        made = cls()
        made.content = run(source, made)
        if made._pending:
            raise RefusedGlobal(", ".join(made._pending))
        return made

    def find(self, module: str, name: str) -> Any:
        """Return what stands for a global."""
        path, (module, name) = f"{module}.{name}", python3_name(module, name)
        if (module, name) in REBUILDERS:
            return _Function(REBUILDERS[module, name], path)
        if module == "torch" and name in ELEMENT_TYPES:
            return ElementType(name)
        if (module, name) in STAND_INS:
            self._pending[path] = None
            return _Function(STAND_INS[module, name], path)
        if name in STORAGES and module in ("torch", "torch.storage", "torch.cuda"):
            return Named(module, name, made=False)
        if not may_be_named(module, name):
            raise RefusedGlobal(", ".join((*self._pending, path)))
        self.stubbed.add(path)
        return Named(module, name, made=may_be_made(module, name))

    def call(self, function: Any, arguments: tuple) -> Any:
        """Return the tensor, container or inert value that a call makes."""
        if isinstance(function, Named):
            if not function.made:
                raise RefusedGlobal(f"{function.module}.{function.name}")
            return Inert(f"{function.module}.{function.name}")
        if not isinstance(function, _Function):
            raise PickleFault(f"a call of a {type(function).__name__}")
        made = function.act(*arguments)
        if function.act in STAND_INS.values():
            if made is None:
                raise RefusedGlobal(function.path)
            self._pending.pop(function.path, None)
        if isinstance(made, StoredTensor) and function.act is not _first:
            self.tensors.append(made)
        return made

    def new(self, cls: Any) -> Any:
        """Return what stands for an object, whatever its constructor would be given."""
        if isinstance(cls, _Function) and cls.act in (_ordered, _size):
            return cls.act()
        if not isinstance(cls, Named):
            raise PickleFault(f"an object of a {type(cls).__name__}")
        if (cls.module, cls.name) == _PARAMETERS:
            return Held()
        return Inert(f"{cls.module}.{cls.name}")

    def persistent(self, identity: Any) -> Any:
        """Return a storage, or the class that stands before its source text in old files."""
        kind = identity[0] if type(identity) is tuple and identity else None
        if kind == "module" and len(identity) == 4:
            return identity[1]
        if kind != "storage" or len(identity) not in (5, 6):
            raise PickleFault("an object outside the pickle that is no storage")
        _, storage_type, key, _location, count, *view = identity
        name = storage_type.name if isinstance(storage_type, Named) else None
        if name not in STORAGES or type(key) is not str or type(count) is not int or count < 0:
            raise PickleFault("a storage of no known kind")
        if view not in ([], [None]):
            raise PickleFault("a storage that is part of another, as torch wrote before 0.4")
        self.storages.append(StoredBytes(key, STORAGES[name], count))
        return self.storages[-1]

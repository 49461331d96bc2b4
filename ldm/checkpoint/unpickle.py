"""Read pickles that ``torch.load(weights_only=True)`` refuses, without running what they ask for.

A pickle is a program: it names importable things ("globals") and calls them. Here a name is handled
in one of three ways, and never imported:

* the few that rebuild tensors and plain containers: our own functions, sealed against change;
* what training checkpoints are known to hold (Lightning's and OmegaConf's objects, numpy scalars,
  ...; see ``known_names``) and classes of other packages: a placeholder class whose instances
  swallow every argument and state;
* anything else (``os.system``, ``builtins.eval``, ``torch.hub.load``, ...): ``RefusedGlobal``.
"""

from __future__ import annotations

import functools
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from ldm.checkpoint.known_names import may_be_made, may_be_named, python3_name


class RefusedGlobal(pickle.UnpicklingError):
    """The pickle asks for something that could run code; ``name`` is its dotted path."""

    def __init__(self, name: str):
        super().__init__(f"refused to import {name}")
        self.name = name


class Sealed:
    """A function that a pickle may call, but not alter.

    Handing out the function itself would let the BUILD opcode write into its ``__dict__`` and so
    into the running process.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a pickle tried to alter a function of the loader")


class _Placeholder(type):
    """The type of placeholder classes: calling one makes an instance, if a pickle may."""

    refused: str | None = None

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls.refused is not None:
            raise RefusedGlobal(cls.refused)
        return super().__call__(*args, **kwargs)


class Inert(metaclass=_Placeholder):
    """Stands for an object of a class that is not imported: takes everything, keeps nothing.

    A subclass, named for the class, stands for the class itself.
    """

    __slots__ = ()

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def _swallow(self, *args: Any) -> None:
        pass

    # What the opcodes BUILD, SETITEM(S), APPEND(S) and ADDITEMS call on an object.
    __setstate__ = __setitem__ = append = extend = add = _swallow


def _placeholder(module: str, name: str, *, made: bool) -> type[Inert]:
    """Make the placeholder of a class; unless it may be ``made``, calling it is refused."""
    refused = None if made else f"{module}.{name}"
    return _Placeholder(name, (Inert,), {"__slots__": (), "__module__": module, "refused": refused})


def _is_placeholder(value: Any) -> bool:
    return isinstance(value, _Placeholder)


def _attribute(*args: Any) -> Any:
    """Stand in for ``getattr``, by which protocols 2 and 3 name a class within a class."""
    owner, name = args if len(args) == 2 else (None, None)
    if not (_is_placeholder(owner) and isinstance(name, str)):
        return None
    made = owner.refused is None and name[:1].isupper()
    return _placeholder(owner.__module__, f"{owner.__name__}.{name}", made=made)


def _subscripted(*args: Any) -> Any:
    """Stand in for ``operator.getitem``, by which ``Dict[str, int]`` is pickled."""
    owner = args[0] if len(args) == 2 else None
    known = _is_placeholder(owner) and owner.__module__ == "typing"
    return _placeholder("typing", owner.__name__, made=False) if known else None


def _type_of(*args: Any) -> Any:
    """Stand in for ``type``, by which the type of None is pickled."""
    value = args[0] if len(args) == 1 else ""
    if value is None or value is Ellipsis or _is_placeholder(value):
        return _placeholder("types", "NoneType", made=False)
    raise RefusedGlobal("builtins.type")


def _rebuild_tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> torch.Tensor:
    """Lay a tensor over a storage; hooks and metadata that may follow are dropped."""
    if not isinstance(storage, torch.storage.TypedStorage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _lay_over(storage._untyped_storage, storage.dtype, offset, size, stride)


def _rebuild_tensor_v3(storage, offset, size, stride, _grad, _hooks, dtype, *_: Any):
    """Like ``_rebuild_tensor`` for element types that have no storage class of their own."""
    untyped = getattr(storage, "_untyped_storage", storage)
    if not isinstance(untyped, torch.UntypedStorage) or not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _lay_over(untyped, dtype, offset, size, stride)


def _lay_over(untyped, dtype: torch.dtype, offset, size, stride) -> torch.Tensor:
    size, stride = tuple(size), tuple(stride)
    if any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise pickle.UnpicklingError("a tensor of impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= untyped.nbytes() // dtype.itemsize:
        raise pickle.UnpicklingError("a tensor reaches beyond its data")
    return torch.empty(0, dtype=dtype).set_(untyped, offset, size, stride)


def _rebuild_parameter(data: torch.Tensor, *_: Any) -> torch.Tensor:
    return data


def _rebuild_subclass(function: Any, _type: Any, args: tuple, *_: Any) -> torch.Tensor:
    """Rebuild a tensor subclass as the plain tensor beneath it."""
    if not isinstance(function, Sealed):
        raise pickle.UnpicklingError("a tensor with a constructor of its own")
    return function(*args)


REBUILDERS: dict[tuple[str, str], Sealed] = {
    ("torch._utils", "_rebuild_tensor"): Sealed(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Sealed(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): Sealed(_rebuild_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): Sealed(_rebuild_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): Sealed(_rebuild_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): Sealed(_rebuild_subclass),
    ("torch", "Size"): Sealed(torch.Size),
    ("collections", "OrderedDict"): Sealed(OrderedDict),
    ("builtins", "type"): Sealed(_type_of),
}
DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}

# Functions that pickles of harmless objects call on placeholders; of anything else they are refused
# (the stand-in returns None), and so they are as values.
STAND_INS: dict[tuple[str, str], Callable] = {
    ("builtins", "getattr"): _attribute,
    ("operator", "getitem"): _subscripted,
    ("_operator", "getitem"): _subscripted,
}


class RestrictedPickle:
    """A ``pickle_module`` for ``torch.load``; one per file.

    Attributes:
        stubbed: Dotted paths of the classes that were replaced by stubs.
        Unpickler: Class of unpicklers that resolve names as this module says.
    """

    __name__ = "ldm.checkpoint.unpickle"

    def __init__(self):
        self.stubbed: set[str] = set()
        # Stand-ins named and not called yet, in the file's order.
        self._pending: dict[str, None] = {}
        resolve, finish = self._resolve, self._finish

        class Unpickler(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                return resolve(module, name)

            def load(self) -> Any:
                content = super().load()
                finish()
                return content

        self.Unpickler = Unpickler

    def load(self, file: Any, **options: Any) -> Any:
        """Read one pickle from an open binary file."""
        return self.Unpickler(file, **options).load()

    def _resolve(self, module: str, name: str) -> Any:
        path, (module, name) = f"{module}.{name}", python3_name(module, name)
        if (module, name) in REBUILDERS:
            return REBUILDERS[module, name]
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) in STAND_INS:
            self._pending[path] = None
            return Sealed(functools.partial(self._stand_in, path, STAND_INS[module, name]))
        if not may_be_named(module, name):
            raise RefusedGlobal(", ".join((*self._pending, path)))
        self.stubbed.add(path)
        return _placeholder(module, name, made=may_be_made(module, name))

    def _stand_in(self, path: str, function: Callable, *args: Any) -> Any:
        made = function(*args)
        if made is None:
            raise RefusedGlobal(path)
        self._pending.pop(path, None)
        return made

    def _finish(self) -> None:
        if self._pending:
            raise RefusedGlobal(", ".join(self._pending))

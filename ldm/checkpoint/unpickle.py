"""Read pickles that ``torch.load(weights_only=True)`` refuses, without running what they ask for.

A pickle is a program: it names importable things ("globals") and calls them. Here a name is handled
in one of three ways, and never imported:

* the few that rebuild tensors and plain containers: our own functions, sealed against change;
* classes of packages known to be written into training checkpoints (Lightning, OmegaConf, numpy
  scalars, ...): a stub class whose instances swallow every argument and state;
* anything else (``os.system``, ``builtins.eval``, ``torch.hub.load``, ...): ``RefusedGlobal``.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch


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


class Inert:
    """Stands for an object of a class that is not imported: takes everything, keeps nothing."""

    __slots__ = ()

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def _swallow(self, *args: Any) -> None:
        pass

    # What the opcodes BUILD, SETITEM(S), APPEND(S) and ADDITEMS call on an object.
    __setstate__ = __setitem__ = append = extend = add = _swallow


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
}
DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}

INERT_PACKAGES = frozenset({"lightning", "lightning_fabric", "omegaconf", "pytorch_lightning"})
_CONTAINERS = ("bytearray", "dict", "frozenset", "list", "object", "set", "slice", "tuple")
_VALUES = ("bool", "bytes", "complex", "float", "int", "str")
_PATHS = ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
_SCALARS = ("bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")
INERT_NAMES: dict[str, frozenset[str]] = {
    module: frozenset(names)
    for modules, names in (
        (("builtins", "__builtin__"), (*_CONTAINERS, *_VALUES)),
        (("collections",), ("Counter", "defaultdict", "deque")),
        (("argparse",), ("Namespace",)),
        (("pathlib", "pathlib._local"), _PATHS),
        (("typing",), ("Any", "Dict", "List", "Optional", "Tuple", "Union")),
        (("datetime",), ("date", "datetime", "timedelta", "timezone")),
        (("copyreg", "copy_reg"), ("_reconstructor",)),
        (("_codecs",), ("encode",)),
        (("numpy",), (*_SCALARS, "dtype", "ndarray")),
        (("numpy.core.multiarray", "numpy._core.multiarray"), ("scalar", "_reconstruct")),
        (("numpy.core.numeric", "numpy._core.numeric"), ("_frombuffer",)),
        (("torch",), ("Tensor", "device")),
        (("torch.nn.parameter",), ("Parameter",)),
    )
    for module in modules
}


def _is_inert(module: str, name: str) -> bool:
    """Check whether a name is known as harmless ballast of training checkpoints.

    A dotted name walks attributes (``pathlib`` + ``os.system``), so it is never harmless. Of whole
    packages only classes are, recognised by their capital letter.
    """
    if not name.isidentifier():
        return False
    if module.split(".")[0] in INERT_PACKAGES:
        return name.lstrip("_")[:1].isupper()
    return name in INERT_NAMES.get(module, ())


class RestrictedPickle:
    """A ``pickle_module`` for ``torch.load``; one per file.

    Attributes:
        stubbed: Dotted paths of the classes that were replaced by stubs.
        Unpickler: Class of unpicklers that resolve names as this module says.
    """

    __name__ = "ldm.checkpoint.unpickle"

    def __init__(self):
        self.stubbed: set[str] = set()
        resolve = self._resolve

        class Unpickler(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                return resolve(module, name)

        self.Unpickler = Unpickler

    def load(self, file: Any, **options: Any) -> Any:
        """Read one pickle from an open binary file."""
        return self.Unpickler(file, **options).load()

    def _resolve(self, module: str, name: str) -> Any:
        if (module, name) in REBUILDERS:
            return REBUILDERS[module, name]
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if not _is_inert(module, name):
            raise RefusedGlobal(f"{module}.{name}")
        self.stubbed.add(f"{module}.{name}")
        return type(name, (Inert,), {"__slots__": (), "__module__": module})

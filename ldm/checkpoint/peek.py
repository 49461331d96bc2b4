"""Read the shapes of a checkpoint's tensors without torch and without reading the weights.

Programs choose a configuration by these shapes before torch is imported: the header of a
safetensors file and the pickle of a ``.ckpt`` are separate from the weights. Nothing that a pickle
names is imported.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldm.checkpoint.nesting import state_in

Shape = tuple[int, ...]
LARGEST_HEADER = 2**27  # bytes; a damaged length must not exhaust memory


def peek_shapes(path: str | Path) -> dict[str, Shape]:
    """Return the shapes of a file's tensors by name.

    Args:
        path: A ``.safetensors`` file, or what ``torch.save`` writes since 1.6.

    Returns:
        Empty for anything else and for damaged files: loading them reports what is wrong.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(9)
            if head.startswith(b"PK"):
                return _of_zip(path)
            length = int.from_bytes(head[:8], "little")
            if head[8:] != b"{" or length > LARGEST_HEADER:
                return {}
            header = json.loads(head[8:] + file.read(length - 1))
        return {name: tuple(entry["shape"]) for name, entry in header.items() if "shape" in entry}
    except Exception:  # a damaged file can fail in any way
        return {}


def _of_zip(path: str | Path) -> dict[str, Shape]:
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if archive.getinfo(name).file_size > LARGEST_HEADER:
            return {}
        with archive.open(name) as file:
            content = _ShapeReader(file).load()
    state = state_in(content, lambda each: isinstance(each, _Tensor))
    return {name: each.shape for name, each in state.items() if isinstance(each, _Tensor)}


class _Inert:
    """Stands for whatever a pickle names: takes everything, keeps nothing."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def _swallow(self, *_args: Any) -> None:
        pass

    # What the opcodes BUILD, SETITEM(S), APPEND(S) and ADDITEMS call on an object.
    __setstate__ = __setitem__ = append = extend = add = _swallow


class _Dict(dict):
    """A dict that drops the attributes a pickle gives it."""

    def __setstate__(self, _state: Any) -> None:
        pass


class _Tensor(_Inert):
    """A tensor's shape alone: ``torch._utils._rebuild_tensor_v2(storage, offset, size, ...)``."""

    def __init__(self, _storage: Any, _offset: int, size: Any, *_rest: Any) -> None:
        self.shape: Shape = tuple(size)


class _Parameter:
    """``_rebuild_parameter(data, ...)`` is its data."""

    def __new__(cls, data: Any, *_rest: Any) -> Any:
        return data


def _attribute(*_args: Any) -> type:
    """Stand in for ``getattr``, by which protocols 2 and 3 name a class within a class."""
    return _Inert


_KNOWN: Mapping[str, Any] = {
    "OrderedDict": _Dict,
    "_rebuild_tensor": _Tensor,
    "_rebuild_tensor_v2": _Tensor,
    "_rebuild_tensor_v3": _Tensor,
    "_rebuild_parameter": _Parameter,
    "_rebuild_parameter_with_state": _Parameter,
    "Size": tuple,
    "getattr": _attribute,
}


class _ShapeReader(pickle.Unpickler):
    """Reads a pickle of tensors as shapes; no name in it leads out of this module."""

    def find_class(self, _module: str, name: str) -> type:
        return _KNOWN.get(name, _Inert)

    def persistent_load(self, _key: Any) -> None:
        """Leave out a storage."""

"""Make the tensors that a torch file describes, over the file's own bytes where they allow it."""

from __future__ import annotations

import zipfile
from typing import Any

import torch
from torch import Tensor

from ldm import budgets
from ldm.checkpoint.pickle_machine import Ordered, PickleFault
from ldm.checkpoint.torch_files import Record, TorchFile
from ldm.checkpoint.unpickle import ElementType, StoredTensor, kind_of
from ldm.paths import file_size

_PLAIN = (bool, int, float, complex, str, bytes, bytearray, type(None))


class LaidOver:
    """Makes the tensors of one file; those that share a storage in it share one here.

    The mapped pages are private: writing to a tensor never changes the file.

    Args:
        file: What was read of the file.
    """

    def __init__(self, file: TorchFile) -> None:
        self._file = file
        self._storages: dict[str, torch.UntypedStorage] = {}
        self._whole: torch.UntypedStorage | None = None

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Return a tensor on the CPU with the values, the shape and the type in the file."""
        key = stored.storage.key
        if key not in self._storages:
            self._storages[key] = self._read(self._file.records[key])
        empty = torch.empty(0, dtype=getattr(torch, stored.element))
        return empty.set_(self._storages[key], stored.offset, stored.shape, stored.stride)

    def _read(self, record: Record) -> torch.UntypedStorage:
        path = self._file.path
        if record.length == 0:
            return torch.UntypedStorage(0)
        if record.start is None:
            with zipfile.ZipFile(path) as archive, archive.open(record.name) as member:
                values = bytearray(member.read(record.length))
            if len(values) != record.length:
                raise PickleFault("a storage that is shorter than its list says")
            return torch.frombuffer(values, dtype=torch.uint8).untyped_storage()
        if self._whole is None:
            self._whole = torch.UntypedStorage.from_file(str(path), False, file_size(path))
        mapped = self._whole[record.start : record.start + record.length]
        return mapped if record.mapped else mapped.clone()


class NotPlain(PickleFault):
    """A file holds more than tensors and plain values."""


def plain_content(file: TorchFile) -> Any:
    """Return all that a file of plain values and tensors holds.

    Args:
        file: What was read of the file.

    Raises:
        NotPlain: It holds objects of a class, which are not made; or containers in containers
            beyond ``budgets.PICKLE_DEPTH``.
    """
    return _Plain(LaidOver(file)).of(file.content, budgets.PICKLE_DEPTH)


class _Plain:
    """Copies containers with tensors in them; what stands at several places stays one thing."""

    def __init__(self, made: LaidOver) -> None:
        self._tensors = made
        self._seen: dict[int, Any] = {}

    def of(self, value: Any, depth: int) -> Any:
        if isinstance(value, _PLAIN):
            return value
        if id(value) not in self._seen:
            if depth == 0:
                raise NotPlain(f"containers within more than {budgets.PICKLE_DEPTH} others")
            self._seen[id(value)] = self._made(value, depth - 1)
        return self._seen[id(value)]

    def _made(self, value: Any, depth: int) -> Any:
        if isinstance(value, StoredTensor):
            return self._tensors.tensor(value)
        if isinstance(value, ElementType):
            return getattr(torch, value.name)
        if isinstance(value, dict):
            made = type(value)((self.of(k, depth), self.of(v, depth)) for k, v in value.items())
            if isinstance(value, Ordered):
                made._metadata = value._metadata
            return made
        if isinstance(value, (list, tuple, set, frozenset)):
            return type(value)(self.of(item, depth) for item in value)
        raise NotPlain(f"a {kind_of(value)}")

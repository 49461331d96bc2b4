"""Read what ``torch.save`` wrote as descriptions, and where their bytes are in the file. No torch.

    zip, since torch 1.6:  NAME/data.pkl names storages, NAME/data/KEY are their bytes
    legacy, before that:   pickles of a mark, a version, the machine, the content and the storages'
                           keys; then for each key its length (int64) and its bytes

What a pickle says of a tensor is held against the bytes that are there before anyone uses it.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ldm import budgets
from ldm.checkpoint.element_types import ELEMENT_TYPES
from ldm.checkpoint.pickle_machine import PickleFault, Window
from ldm.checkpoint.unpickle import StoredTensor, Unpickled

ZIP = b"PK\3\4"  # the first bytes of a zip; two of them could be the length of another's header
_MARK, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = 30  # bytes before a record's name
_ENCRYPTED, _UNICODE = 1, 0x800  # flags of a record
_ALIGNED = 16  # bytes: the largest number's
_SMALL = 2**24  # bytes that any file may claim
_END_OF_DIRECTORY, _END_LENGTH, _LONGEST_COMMENT = b"PK\5\6", 22, 2**16


@dataclass(frozen=True)
class Record:
    """The bytes of one storage.

    Attributes:
        length: Their number, unpacked.
        start: Their place in the file, or None if they are compressed.
        name: Their name in a zip.
    """

    length: int
    start: int | None
    name: str = ""

    @property
    def mapped(self) -> bool:
        """Whether the bytes can be used where they are in the file."""
        return self.start is not None and self.start % _ALIGNED == 0


@dataclass(frozen=True)
class TorchFile:
    """What a file of ``torch.save`` holds.

    Attributes:
        path: The file.
        content: What was saved, with a ``StoredTensor`` in place of each tensor.
        records: The bytes of each storage, by its key.
        stubbed: What the pickle named and that was not imported.
    """

    path: Path
    content: Any
    records: Mapping[str, Record]
    stubbed: tuple[str, ...]

    @property
    def mapped(self) -> bool:
        """Whether all bytes can be used where they are in the file."""
        return all(record.mapped for record in self.records.values())


def read_torch_file(path: Path) -> TorchFile:
    """Read a file of either format.

    Raises:
        PickleFault: It is damaged, forged, or claims more than there is.
        RefusedGlobal: Its pickle asks for something that could run code.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        zipped = file.read(len(ZIP)) == ZIP
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            unpickled, records = _of_zip(path, data) if zipped else _of_legacy(data)
            _check(unpickled, records, len(data))
    return TorchFile(path, unpickled.content, records, tuple(sorted(unpickled.stubbed)))


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip whose list of records is not out of all proportion.

    Raises:
        PickleFault: It is, or the file is no whole zip.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _END_LENGTH - _LONGEST_COMMENT))
        tail = file.read()
    # The zip's list stands before this mark: it cannot be longer than what its length says.
    end = tail.rfind(_END_OF_DIRECTORY)
    listed = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
    if budgets.ZIP_DIRECTORY < listed < 2**32 - 1 or (listed == 2**32 - 1 and _long_list(tail)):
        raise PickleFault(f"a zip whose list of records takes over {budgets.ZIP_DIRECTORY} bytes")
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        raise PickleFault("no whole zip") from error


def _long_list(tail: bytes) -> bool:
    """Check the list's length where it is written in 64 bits."""
    end = tail.rfind(b"PK\6\6")
    return end < 0 or int.from_bytes(tail[end + 40 : end + 48], "little") > budgets.ZIP_DIRECTORY


def _of_zip(path: Path, data: mmap.mmap) -> tuple[Unpickled, dict[str, Record]]:
    with open_zip(path) as archive:
        items = {item.filename: item for item in archive.infolist()}
        if len(items) != len(archive.infolist()):
            raise PickleFault("a zip with two records of one name")
        pickles = [name for name in items if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise PickleFault(f"a zip with {len(pickles)} records data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in items and _small(archive, f"{folder}byteorder") != b"little":
            raise PickleFault("a file of a machine with another order of bytes")
        unpickled = _unpickled(archive, items[pickles[0]], data)
        keys = {stored.key for stored in unpickled.storages}
        named = {key: items.get(f"{folder}data/{key}") for key in keys}
        records = {key: _record(item, data) for key, item in named.items() if item is not None}
    packed = sum(record.length for record in records.values() if record.start is None)
    if packed > max(_SMALL, budgets.ZIP_RATIO * len(data)):
        raise PickleFault(f"{packed} bytes compressed into {len(data)}")
    return unpickled, records


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        return file.read(16)


def _unpickled(archive: zipfile.ZipFile, item: zipfile.ZipInfo, data: mmap.mmap) -> Unpickled:
    if item.file_size > budgets.PICKLE_BYTES:
        raise PickleFault(f"a pickle of {item.file_size} bytes")
    record = _record(item, data)
    if record.start is not None:
        return Unpickled.read(Window(data, record.start, record.length))
    with archive.open(item) as file:
        unpacked = file.read(budgets.PICKLE_BYTES)
    return Unpickled.read(Window(unpacked, 0, len(unpacked)))


def _record(item: zipfile.ZipInfo, data: mmap.mmap) -> Record:
    """Find a record's bytes; the list at a zip's end and the head before them must agree."""
    if item.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise PickleFault("a zip that is compressed in an unusual way")
    after = item.header_offset + _LOCAL_HEADER
    head = data[item.header_offset : after]
    method, name, extra = (int.from_bytes(head[at : at + 2], "little") for at in (8, 26, 28))
    start = after + name + extra
    whole = head[: len(ZIP)] == ZIP and start + item.compress_size <= len(data)
    named = item.orig_filename.encode("utf-8" if item.flag_bits & _UNICODE else "cp437")
    same = method == item.compress_type and data[after : after + name] == named
    if not (whole and same) or item.flag_bits & _ENCRYPTED:
        raise PickleFault("a zip whose records are not where its list says")
    if item.compress_type == zipfile.ZIP_DEFLATED:
        return Record(item.file_size, None, item.filename)
    if item.compress_size != item.file_size:
        raise PickleFault("a zip whose records are not as long as its list says")
    return Record(item.file_size, start, item.filename)


def _of_legacy(data: mmap.mmap) -> tuple[Unpickled, dict[str, Record]]:
    window = Window(data, 0, budgets.PICKLE_BYTES)
    mark, protocol, machine = (Unpickled.read(window).content for _ in range(3))
    if (mark, protocol) != (_MARK, _PROTOCOL) or not isinstance(machine, dict):
        raise PickleFault("no pickle of torch.save")
    if machine.get("little_endian") is False:
        raise PickleFault("a file of a machine with another order of bytes")
    unpickled = Unpickled.read(window)
    keys = Unpickled.read(window).content
    sizes = {stored.key: _number(stored.element) for stored in unpickled.storages}
    if not isinstance(keys, list) or any(key not in sizes for key in map(_text, keys)):
        raise PickleFault("a list of storages that are not in the pickle")
    position, records = window.tell(), {}
    for key in keys:
        count = int.from_bytes(data[position : position + 8], "little", signed=True)
        start, length = position + 8, count * sizes[key]
        if count < 0 or start + length > len(data) or key in records:
            raise PickleFault("a storage that reaches beyond the file")
        records[key] = Record(length, start)
        position = start + length
    return unpickled, records


def _text(key: Any) -> str:
    return key if type(key) is str else ""


def _number(element: str) -> int:
    """Return the bytes of one number."""
    return ELEMENT_TYPES.get(element) or 1


def _check(unpickled: Unpickled, records: Mapping[str, Record], file_size: int) -> None:
    """Hold what was described against the bytes that are there."""
    for stored in unpickled.storages:
        record = records.get(stored.key)
        if record is None or stored.count * _number(stored.element) > record.length:
            raise PickleFault("a storage whose bytes are not in the file")
    claimed = sum(_claim(tensor, records, file_size) for tensor in unpickled.tensors)
    if claimed > max(_SMALL, budgets.CLAIMED_RATIO * file_size):
        raise PickleFault(f"tensors of {claimed} bytes in a file of {file_size}")


def _claim(tensor: StoredTensor, records: Mapping[str, Record], file_size: int) -> int:
    """Return how many bytes a tensor's values take."""
    numbers, size = prod(tensor.shape), _number(tensor.element)
    if numbers == 0:
        return 0
    steps = zip(tensor.shape, tensor.stride, strict=True)
    last = tensor.offset + sum((n - 1) * step for n, step in steps)
    stored = tensor.storage
    if (last + 1) * size > stored.count * _number(stored.element):
        raise PickleFault("a tensor that reaches beyond its data")
    room = max(file_size, records[stored.key].length)
    if numbers * size > room:
        raise PickleFault(f"a tensor of {numbers * size} bytes in a file of {file_size}")
    return numbers * size

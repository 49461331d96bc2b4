"""Records of pictures: a JSON line each on disk, and about a hundred bytes each in memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ldm.jobs.base import StoreError, checked_name

IN_A_FOLDER = 10_000
"""Pictures in one folder: file systems and people get slow where there are many more."""

_PACKED = struct.Struct("<q32s32sqqfiii")
_TABLE = np.dtype(
    [
        ("number", "<i8"),
        ("digest", "V32"),
        ("sha256", "V32"),
        ("size", "<i8"),
        ("offset", "<i8"),
        ("seconds", "<f4"),
        ("name", "<i4"),
        ("error", "<i4"),
        ("worker", "<i4"),
    ]
)
_OWN = {-1: "png", -2: "jpg"}  # names that follow from a picture's number are not kept
_NOTHING = bytes(32)
_ROWS = 65_536


class Record(NamedTuple):
    """What became of one picture.

    Attributes:
        number: Which picture of the run.
        digest: SHA-256 of what it depends on (``Job.digest``).
        name: The file that holds it; empty if nothing was drawn.
        sha256: SHA-256 of the picture's bytes.
        size: Their number.
        error: Why nothing was drawn, in one line; empty if the picture is there.
        seconds: How long drawing took.
        worker: Who drew it.
        offset: Where in the file the picture is: the byte in a .tar, the row in a .parquet.
    """

    number: int
    digest: str
    name: str = ""
    sha256: str = ""
    size: int = 0
    error: str = ""
    seconds: float = 0.0
    worker: str = ""
    offset: int = 0

    @property
    def in_shard(self) -> bool:
        """Whether the picture shares its file with others."""
        return self.name.endswith((".tar", ".parquet"))


def picture_name(number: int, ending: str = "png") -> str:
    """Return the file of a picture in folders of ``IN_A_FOLDER``.

    Example:
        >>> picture_name(12), picture_name(123_456)
        ('0000/00000012.png', '0012/00123456.png')
    """
    return f"{number // IN_A_FOLDER:04d}/{number:08d}.{ending}"


def to_line(record: Record) -> bytes:
    """Return a record as a line of the manifest; what has its default is left out."""
    defaults = Record._field_defaults
    said = {k: v for k, v in record._asdict().items() if k not in defaults or v != defaults[k]}
    if record.seconds:
        said["seconds"] = round(record.seconds, 3)
    return json.dumps(said, separators=(",", ":")).encode("ascii") + b"\n"


def from_line(line: bytes) -> Record:
    """Read a line of a manifest.

    Raises:
        ValueError: It is torn or damaged, or says what no record says.
    """
    entry = json.loads(line)
    try:
        record = Record(**entry)
        for name, value in entry.items():
            if type(value) not in _KINDS[name]:
                raise ValueError(f"{name} is {value!r}")
    except (TypeError, KeyError) as error:
        raise ValueError(str(error)) from error
    if min(record.number, record.size, record.offset) < 0 or not (record.name or record.error):
        raise ValueError("a record of nothing")
    return record


_KINDS: dict[str, tuple[type, ...]] = {
    "number": (int,),
    "size": (int,),
    "offset": (int,),
    "seconds": (float, int),
} | dict.fromkeys(("digest", "name", "sha256", "error", "worker"), (str,))


class Records(Mapping[int, Record]):
    """The last record of each picture, by its number; made by ``Packing``.

    Args:
        table: Rows sorted by number.
        texts: What rows refer to: names of shards, errors, workers.
        stale: Pictures in shards that a later record has replaced.
    """

    def __init__(self, table: np.ndarray, texts: list[str], stale: int = 0) -> None:
        self._table, self._texts, self.stale = table, texts, stale
        self._numbers = np.ascontiguousarray(table["number"])

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[int]:
        for start in range(0, len(self), _ROWS):
            yield from self._numbers[start : start + _ROWS].tolist()

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self._row(number) is not None

    def __getitem__(self, number: int) -> Record:
        row = self._row(number)
        if row is None:
            raise KeyError(number)
        return self._unpacked(self._table[row])

    def digest(self, number: int) -> str | None:
        """Return what a picture's record is of, without building the record; None without any."""
        row = self._row(number)
        return None if row is None else _hex(self._table["digest"][row])

    def sha256(self, number: int) -> str | None:
        """Return the hash of a picture; None without a record, or where nothing was drawn."""
        row = self._row(number)
        return None if row is None else _hex(self._table["sha256"][row]) or None

    def failed(self) -> list[int]:
        """List the numbers of the pictures that could not be drawn."""
        return self._numbers[self._table["error"] != 0].tolist()

    def by_place(self) -> Iterator[Record]:
        """Yield the records of drawn pictures, those of one file together, in its order."""
        drawn = np.flatnonzero(self._table["error"] == 0)
        keys = (self._numbers[drawn], self._table["offset"][drawn], self._table["name"][drawn])
        for row in drawn[np.lexsort(keys)].tolist():
            yield self._unpacked(self._table[row])

    @property
    def nbytes(self) -> int:
        """Bytes in memory, texts not counted."""
        return self._table.nbytes + self._numbers.nbytes

    def _row(self, number: int) -> int | None:
        row = int(np.searchsorted(self._numbers, number))
        found = row < len(self._numbers) and self._numbers[row] == number
        return row if found else None

    def _unpacked(self, row: Any) -> Record:
        number, name = int(row["number"]), int(row["name"])
        return Record(
            number,
            _hex(row["digest"]),
            picture_name(number, _OWN[name]) if name in _OWN else self._texts[name],
            _hex(row["sha256"]),
            int(row["size"]),
            self._texts[int(row["error"])],
            float(row["seconds"]),
            self._texts[int(row["worker"])],
            int(row["offset"]),
        )


class Packing:
    """Collects records, a later one of a picture in place of an earlier one."""

    def __init__(self) -> None:
        self._rows = bytearray()
        self._texts: list[str] = [""]
        self._places: dict[str, int] = {"": 0}
        self._shards: dict[str, int] = {}

    def add(self, record: Record) -> None:
        """Add a record.

        Raises:
            ValueError: A hash is none, a number is too large, or a name leads elsewhere.
        """
        try:
            row = _PACKED.pack(
                record.number,
                _unhex(record.digest),
                _unhex(record.sha256),
                record.size,
                record.offset,
                record.seconds,
                self._name(record),
                self._text(record.error),
                self._text(record.worker),
            )
        except (struct.error, OverflowError) as error:
            raise ValueError(str(error)) from error
        self._rows += row

    def shards(self) -> set[str]:
        """Return the files that hold several pictures, as far as records name them."""
        return set(self._shards)

    def records(self, missing: set[str] | frozenset[str] = frozenset()) -> Records:
        """Return the last record of each picture.

        Args:
            missing: Shards that are not there; their records are left out, so that an earlier one
                of the same picture counts.
        """
        table = np.frombuffer(self._rows, _TABLE)
        if missing:
            gone = [self._shards[name] for name in missing if name in self._shards]
            table = table[~np.isin(table["name"], gone)]
        order = np.argsort(table["number"], kind="stable")
        numbers = table["number"][order]
        last = np.append(numbers[1:] != numbers[:-1], True) if len(order) else np.empty(0, bool)
        in_shards = np.isin(table["name"][order], list(self._shards.values()))
        return Records(table[order[last]], self._texts, int((in_shards & ~last).sum()))

    def _name(self, record: Record) -> int:
        for code, ending in _OWN.items():
            if record.name == picture_name(record.number, ending):
                return code
        if not record.name or record.name in self._shards:
            return self._shards.get(record.name, 0)
        place = self._text(_safe(record.name))
        if record.in_shard:
            self._shards[record.name] = place
        return place

    def _text(self, text: str) -> int:
        place = self._places.setdefault(text, len(self._texts))
        if place == len(self._texts):
            self._texts.append(text)
        return place


def _safe(name: str) -> str:
    try:
        return checked_name(name)
    except StoreError as error:
        raise ValueError(str(error)) from error


def _unhex(text: str) -> bytes:
    data = bytes.fromhex(text) if text else _NOTHING
    if len(data) != 32:
        raise ValueError(f"{text!r} is no SHA-256")
    return data


def _hex(value: Any) -> str:
    data = value.tobytes() if hasattr(value, "tobytes") else bytes(value)
    return "" if data == _NOTHING else data.hex()

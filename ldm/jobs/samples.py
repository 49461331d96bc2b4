"""Read a run's pictures back, and compare their bytes with what the manifest says."""

from __future__ import annotations

import hashlib
import itertools
import json
import tarfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from ldm.errors import UserError
from ldm.jobs.base import Store, StoreError, Unreadable
from ldm.jobs.parquet_output import ROWS, arrow
from ldm.jobs.records import Record
from ldm.paths import reason

MISSING = "is missing"
UNREADABLE = "cannot be read"
"""How the fault begins where the disk, and perhaps not the picture, is to blame."""
_PARTS = 3  # files of a picture in a tar
_LONGEST_TEXT = 2**20  # bytes of a caption or a recipe


class Sample(NamedTuple):
    """A picture as it was written.

    Attributes:
        record: Its record.
        data: The bytes of its file; empty if they are not those that were recorded.
        caption: Its prompt, which only shards hold.
        parameters: The text about how it was drawn; only from shards.
        fault: What is wrong, as the end of a sentence that begins with the picture; or empty.
    """

    record: Record
    data: bytes = b""
    caption: str = ""
    parameters: str = ""
    fault: str = ""


def samples(store: Store, records: Iterable[Record]) -> Iterator[Sample]:
    """Read pictures; each shard is read once, from its beginning to its end.

    Args:
        store: The place.
        records: Records of pictures, in the order of ``Records.by_place``.

    Raises:
        StoreError: An object store cannot be reached. A file that cannot be read is a fault.
    """
    for name, group in itertools.groupby(records, key=lambda record: record.name):
        if name.endswith(".tar"):
            yield from _shard(_tar_samples, store, list(group))
        elif name.endswith(".parquet"):
            yield from _shard(_rows, store, list(group))
        else:
            for record in group:
                yield _file(store, record)


def read_picture(store: Store, record: Record) -> bytes:
    """Return one picture's bytes.

    Raises:
        UserError: It is missing or damaged.
    """
    sample = next(samples(store, [record]))
    if sample.fault:
        raise UserError(
            f"picture {record.number} ({store.url}/{record.name}) {sample.fault}; expected the "
            "bytes that the manifest has recorded; run with --verify, which draws it again"
        )
    return sample.data


def _file(store: Store, record: Record) -> Sample:
    try:
        return _checked(record, store.get(record.name))
    except FileNotFoundError:
        return Sample(record, fault=MISSING)
    except Unreadable as error:
        return Sample(record, fault=_cannot(error))


def _checked(record: Record, data: bytes, caption: str = "", parameters: str = "") -> Sample:
    fault = ""
    if len(data) != record.size:
        fault = f"has {len(data)} bytes and not {record.size}"
    elif hashlib.sha256(data).hexdigest() != record.sha256:
        fault = "has other bytes than were written"
    return Sample(record, b"" if fault else data, caption, parameters, fault)


def _shard(read: Any, store: Store, group: list[Record]) -> Iterator[Sample]:
    """Read a group's samples; if that ends early, the rest has what ended it as its fault."""
    told = 0
    try:
        with store.open(group[0].name) as file:
            for sample in read(file, group):
                yield sample
                told += 1
        fault = "is not in its shard"
    except FileNotFoundError:
        fault = MISSING
    except Unreadable as error:
        fault = _cannot(error)
    except UserError:  # pyarrow is not there, or an object store out of reach: no fault of pictures
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are such
        fault = _cannot(error)
    for record in group[told:]:
        yield Sample(record, fault=fault)


def _tar_samples(file: BinaryIO, group: list[Record]) -> Iterator[Sample]:
    for record in group:
        try:
            yield _tar_sample(file, record)
        except StoreError:
            raise
        except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
            yield Sample(record, fault=_cannot(error))


def _tar_sample(file: BinaryIO, record: Record) -> Sample:
    file.seek(max(0, record.offset - tarfile.BLOCKSIZE))
    parts: dict[str, bytes] = {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        if (first := tar.next()) is None:
            raise ValueError("its shard ends before it")
        key, _, ending = first.name.rpartition(".")
        parts[ending] = _content(tar, first, record.size)
        while len(parts) < _PARTS and (member := tar.next()) is not None:
            name, _, ending = member.name.rpartition(".")
            if name != key or ending in parts:
                break
            parts[ending] = _content(tar, member, _LONGEST_TEXT)
    if key != f"{record.number:08d}" or "png" not in parts:
        raise ValueError(f"{key} stands in its place")
    about = json.loads(parts.get("json", b"{}"))
    return _checked(
        record,
        parts["png"],
        parts.get("txt", b"").decode("utf-8", "replace"),
        str(about.get("parameters", "")) if isinstance(about, dict) else "",
    )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    if not member.isreg() or member.size > most:
        raise ValueError(f"{member.name} has {member.size} bytes and not {most}")
    return tar.extractfile(member).read()


def _rows(file: BinaryIO, group: list[Record]) -> Iterator[Sample]:
    _, parquet = arrow()
    wanted = iter(group)
    record, row = next(wanted), 0
    columns = ["image", "text", "number", "parameters"]
    for batch in parquet.ParquetFile(file).iter_batches(batch_size=ROWS, columns=columns):
        while record is not None and record.offset < row + batch.num_rows:
            yield _row(batch.slice(record.offset - row, 1).to_pylist()[0], record)
            record = next(wanted, None)
        row += batch.num_rows


def _row(row: dict[str, Any], record: Record) -> Sample:
    if row["number"] != record.number or not isinstance(row["image"], dict):
        return Sample(record, fault=f"has picture {row['number']} in its place")
    data = row["image"].get("bytes") or b""
    return _checked(record, data, row["text"] or "", row["parameters"] or "")


def _cannot(error: Exception) -> str:
    """Tell bytes that nobody can make sense of from a disk that did not give them."""
    of_disk = isinstance(error, Unreadable) or (isinstance(error, OSError) and error.errno)
    return f"{UNREADABLE if of_disk else 'is damaged'} ({reason(error)})"

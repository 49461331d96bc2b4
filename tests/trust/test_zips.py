"""A zip whose parts disagree, or that unpacks to far more than it is, is one line."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from trust.guard import faults, guarded
from trust.opcodes import COUNT, PAYLOAD, STOP, checked, mapping, storage, tensor, zipped

PROGRAM = b"\x80\x04" + mapping(w=tensor(stored=storage())) + STOP
GOOD = zipped({"data.pkl": PROGRAM, "byteorder": b"little", "version": b"3\n"})
LIST, HEAD, END = b"PK\1\2", b"PK\3\4", b"PK\5\6"


def packed(
    records: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, prefix: str = "archive/"
) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in records.items():
            archive.writestr(prefix + name, data)
    return made.getvalue()


def changed(mark: bytes, at: int, data: bytes, which: int = -1) -> bytes:
    """The good zip with other bytes at a place after its ``which``-th mark."""
    places = [n for n in range(len(GOOD)) if GOOD.startswith(mark, n)]
    start = places[which] + at
    return GOOD[:start] + data + GOOD[start + len(data) :]


def long(value: int) -> bytes:
    return struct.pack("<I", value)


def twice(name: str, first: bytes, second: bytes) -> bytes:
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w") as archive:
        warnings.simplefilter("ignore")  # of names that are there
        for each, data in [(f"a/{name}", first), (f"a/{name}", second)]:
            archive.writestr(each, data)
        if name != "data.pkl":
            archive.writestr("a/data.pkl", PROGRAM)
        if name != "data/0":
            archive.writestr("a/data/0", PAYLOAD)
    return made.getvalue()


def zeros(count: int) -> bytes:
    """A zip of many zeros, packed."""
    program = mapping(w=tensor((count,), stored=storage("FloatStorage", "0", count)))
    return packed({"data.pkl": b"\x80\x04" + program + STOP, "data/0": bytes(4 * count)})


ZIPS = {
    "a list of great length": changed(END, 12, long(2**31)),
    "a list of 64 bits": changed(END, 12, long(2**32 - 1)),
    "a list elsewhere": changed(END, 16, long(2**31)),
    "a list of no records": changed(END, 8, b"\0\0\0\0"),
    "a list of too many records": changed(END, 8, b"\xff\xff\xff\xff"),
    "an end with a comment that is not there": changed(END, 20, b"\xff\xff"),
    "a record beyond the file": changed(LIST, 42, long(len(GOOD) + 100)),
    "a record in the list": changed(LIST, 42, long(GOOD.index(LIST))),
    "a record at another's place": changed(LIST, 42, long(0)),
    "a record longer than the file": changed(LIST, 20, long(2**30) + long(2**30)),
    "a record of two lengths": changed(LIST, 24, long(2**20)),
    "a record of 64 bits without them": changed(LIST, 20, long(2**32 - 1) + long(2**32 - 1)),
    "a record shorter than its tensor": changed(LIST, 20, long(8) + long(8)),
    "a record packed by the list alone": changed(LIST, 10, b"\x08\0"),
    "a record packed by its head alone": changed(HEAD, 8, b"\x08\0"),
    "a record of an unknown method": changed(LIST, 10, b"\x63\0"),
    "a record with a password": changed(LIST, 8, b"\1\0"),
    "a record with a name beyond the file": changed(HEAD, 26, b"\xff\xff"),
    "a record with an extra beyond the file": changed(HEAD, 28, b"\xff\xff"),
    "a record on another disk": changed(LIST, 34, b"\7\0"),
    "a record of a later version": changed(LIST, 6, b"\xff\xff"),
    "a pickle longer than the file": changed(LIST, 24, long(2**31), which=0),
    "a pickle of great length, packed": packed(
        {"data.pkl": b"N0" * 2**25 + STOP, "data/0": PAYLOAD}
    ),
    "a gigabyte of zeros": zeros(2**28),
    "fifty megabytes of zeros": zeros(50 * 2**18),
    "packed by bzip2": packed({"data.pkl": PROGRAM, "data/0": PAYLOAD}, zipfile.ZIP_BZIP2),
    "packed by lzma": packed({"data.pkl": PROGRAM, "data/0": PAYLOAD}, zipfile.ZIP_LZMA),
    "packed bytes that are damaged": packed({"data.pkl": PROGRAM, "data/0": PAYLOAD}).replace(
        b"PK\1\2", b"PK\1\2", 1
    )[:60]
    + b"\xff" * 8
    + packed({"data.pkl": PROGRAM, "data/0": PAYLOAD})[68:],
    "two pickles of one name": twice("data.pkl", PROGRAM, PROGRAM),
    "two storages of one name": twice("data/0", PAYLOAD, bytes(len(PAYLOAD))),
    "two pickles in two folders": packed({"a/data.pkl": PROGRAM, "b/data.pkl": PROGRAM}),
    "no pickle": packed({"data/0": PAYLOAD}),
    "an empty pickle": packed({"data.pkl": b"", "data/0": PAYLOAD}),
    "no storage": packed({"data.pkl": PROGRAM}),
    "an empty storage": packed({"data.pkl": PROGRAM, "data/0": b""}),
    "a storage in another folder": packed({"data.pkl": PROGRAM, "other/0": PAYLOAD}),
    "a name that leads out": packed({"data.pkl": PROGRAM, "data/0": PAYLOAD}, prefix="../../etc/"),
    "a name from the root": packed({"data.pkl": PROGRAM, "data/0": PAYLOAD}, prefix="/etc/"),
    "a name of great length": packed({"data.pkl": PROGRAM}, prefix="x" * 60_000 + "/"),
    "a name with signs that act": packed({"data.pkl": PROGRAM}, prefix="\x1b[2J\x07\u202e/"),
    "another order of bytes": zipped({"data.pkl": PROGRAM, "byteorder": b"big"}),
    "an order of bytes of great length": packed(
        {"data.pkl": PROGRAM, "byteorder": bytes(2**25), "data/0": PAYLOAD}
    ),
    "a program of TorchScript": zipped({"data.pkl": PROGRAM, "constants.pkl": b"\x80\2)."}),
    "code beside it": zipped({"data.pkl": PROGRAM, "code/__torch__.py": b"import os"}),
    "twenty thousand records": packed({f"data/{n}": b"" for n in range(1, 20_000)}, 0),
    "bytes after its end": GOOD + b"x" * 100,
    "bytes before its beginning": b"x" * 100 + GOOD,
    "an end and nothing else": END + bytes(18),
    "a beginning and nothing else": GOOD[:40],
    "two zips": GOOD + GOOD,
    **{f"cut after {n} bytes": GOOD[:n] for n in range(30, len(GOOD), 61)},
    **{
        f"other bits at {n}": GOOD[:n] + bytes([GOOD[n] ^ 0xFF]) + GOOD[n + 1 :]
        for n in range(0, len(GOOD), 7)
        if not 0 <= n - GOOD.index(PAYLOAD) < len(PAYLOAD)
    },
}
WHOLE = {
    "stored": GOOD,
    "packed": packed({"data.pkl": PROGRAM, "data/0": PAYLOAD}),
    "without alignment": zipped({"data.pkl": PROGRAM}, prefix="a/"),
    "in no common folder": zipped({"data.pkl": PROGRAM}, prefix="x/y/z/"),
}


def cases(folder: Path) -> Iterator[tuple[str, Callable]]:
    import ldm.checkpoint.io  # noqa: F401 - before the guard is up

    for number, (name, data) in enumerate({**ZIPS, **WHOLE}.items()):
        path = folder / f"{number}.ckpt"
        path.write_bytes(data)
        yield name, partial(checked, path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return guarded(__file__, tmp_path_factory.mktemp("zips"))


def test_no_zip_reads_beside_its_file_or_takes_more_than_it_is(results):
    assert len(ZIPS) >= 100
    assert not faults(results)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_zips_are_read(results, name):
    assert results[name].value == 4, results[name]


@pytest.mark.parametrize(
    "name",
    [
        *("a gigabyte of zeros", "two storages of one name", "no storage", "an empty storage"),
        *("a record shorter than its tensor", "packed by lzma", "a record with a password"),
        *("another order of bytes", "a list of great length", "two pickles of one name"),
        "a pickle of great length, packed",
    ],
)
def test_what_is_forged_is_refused(results, name):
    assert results[name].error == "UserError", results[name]


def test_a_storage_is_as_long_as_the_pickle_says():
    assert len(PAYLOAD) == 4 * COUNT

"""Records: what a line says is what is read, nothing else is, and a million take little memory."""

from __future__ import annotations

import json

import pytest
from drawn_jobs import job

from ldm.jobs.records import Packing, Record, from_line, picture_name, to_line

DIGEST, OTHER = job(0).digest, job(1).digest
DRAWN = Record(7, DIGEST, picture_name(7), OTHER, 1234, seconds=0.5, worker="w0")
RECORDS = [
    DRAWN,
    DRAWN._replace(name="shards/00000-w0-ab.tar", offset=512),
    DRAWN._replace(name="shards/00000-w0-ab.parquet", offset=3),
    DRAWN._replace(name=picture_name(7, "jpg")),
    DRAWN._replace(name=picture_name(8)),  # another number's name is kept as it is
    Record(2**40, DIGEST, error="line 12: the picture ü.png\n is broken", worker="w/1"),
    Record(0, "", error="no digest"),
]


def packed(*records: Record) -> Packing:
    packing = Packing()
    for record in records:
        packing.add(record)
    return packing


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_survives_its_line_and_its_row(record):
    line = to_line(record)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert from_line(line) == record
    assert packed(record).records()[record.number] == record


@pytest.mark.parametrize("length", range(1, len(to_line(DRAWN)) - 1))
def test_no_torn_line_is_a_record(length):
    with pytest.raises(ValueError):
        packed(from_line(to_line(DRAWN)[:length]))


@pytest.mark.parametrize(
    "change",
    [{"number": -1}, {"number": "7"}, {"number": True}, {"number": 2**63}, {"number": 1.0}]
    + [{"digest": "abc"}, {"digest": "g" * 64}, {"digest": None}, {"sha256": "ab"}]
    + [{"name": "../../etc/passwd"}, {"name": "/etc/passwd"}, {"name": ""}, {"name": ["a"]}]
    + [{"size": -1}, {"size": 2**70}, {"offset": -1}, {"seconds": "1"}, {"more": 1}],
)
def test_a_line_that_says_what_no_record_says_is_refused(change):
    entry = json.loads(to_line(DRAWN)) | change
    with pytest.raises(ValueError):
        packed(from_line(json.dumps(entry).encode()))


@pytest.mark.parametrize("line", [b"[]", b"{}", b"null", b"7", b'"a"', b"\0" * 99, b"\xff", b"{"])
def test_what_is_no_object_of_a_record_is_refused(line):
    with pytest.raises(ValueError):
        from_line(line)


def test_the_last_record_of_a_picture_counts():
    redrawn = DRAWN._replace(digest=OTHER, sha256=DIGEST)
    failed = Record(9, DIGEST, error="broken")
    records = packed(failed, DRAWN, redrawn, failed._replace(error="again")).records()
    assert dict(records) == {7: redrawn, 9: failed._replace(error="again")}
    assert records.failed() == [9]
    assert records.digest(7) == OTHER and records.digest(8) is None
    assert records.sha256(7) == DIGEST and records.sha256(9) is None and records.sha256(8) is None


def test_numbers_are_looked_up_as_in_a_dict():
    records = packed(*(DRAWN._replace(number=n) for n in (5, 3, 2**40))).records()
    assert list(records) == [3, 5, 2**40] and len(records) == 3
    assert 5 in records and 4 not in records and "5" not in records
    with pytest.raises(KeyError):
        records[4]
    empty = packed().records()
    assert len(empty) == 0 and list(empty) == [] and empty.failed() == [] and 0 not in empty
    assert list(empty.by_place()) == []


def test_without_its_shard_a_record_leaves_the_earlier_one():
    first = DRAWN._replace(name="shards/a.tar")
    second = DRAWN._replace(name="shards/b.tar", digest=OTHER)
    packing = packed(first, second)
    assert packing.shards() == {"shards/a.tar", "shards/b.tar"}
    assert dict(packing.records()) == {7: second}
    assert dict(packing.records(missing={"shards/b.tar"})) == {7: first}
    assert dict(packing.records(missing={"shards/a.tar", "shards/b.tar"})) == {}


def test_records_are_yielded_file_by_file_in_the_order_of_each_file():
    tar = [DRAWN._replace(number=n, name="shards/a.tar", offset=9 - n) for n in range(4)]
    files = [DRAWN._replace(number=n, name=picture_name(n)) for n in (12, 5)]
    records = packed(tar[0], files[0], tar[2], Record(8, DIGEST, error="x"), files[1], *tar)
    assert list(records.records().by_place()) == [files[1], files[0], *reversed(tar)]


def test_a_record_takes_about_a_hundred_bytes_in_memory():
    count = 2000
    some = (DRAWN._replace(number=n, name=picture_name(n)) for n in range(count))
    records = packed(*some, DRAWN._replace(number=0, name="shards/a.tar")).records()
    assert records.nbytes <= 120 * count
    assert len(records._texts) <= 4  # "", the worker, the shard: texts are kept once


def test_folders_hold_ten_thousand_pictures():
    assert picture_name(9_999).startswith("0000/") and picture_name(10_000).startswith("0001/")
    assert picture_name(123_456_789) == "12345/123456789.png"

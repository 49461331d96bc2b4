"""Outputs: the layout of folders and shards, which this project's own data sets read."""

from __future__ import annotations

import errno
import io
import itertools
import logging
import tarfile
import threading

import numpy as np
import pytest
from drawn_jobs import add, draw, job, picture
from PIL import Image

from ldm.errors import UserError
from ldm.jobs.manifest import Manifest, ManifestWriter
from ldm.jobs.output import OUTPUTS, open_output
from ldm.jobs.records import picture_name
from ldm.jobs.samples import samples
from ldm.jobs.shard_output import Limits
from ldm.jobs.store import StoreError, open_store

SHARDS = [name for name in OUTPUTS if name != "folder"]


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "run")


def opened(store, format: str, **options):
    return open_output(format, store, ManifestWriter(store, "w"), **options)


def pixels(number: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture(number))).convert("RGB"))


def test_a_folder_has_a_file_for_each_picture_and_its_record_at_once(store):
    output = opened(store, "folder")
    for number in (3, 10_002):
        (record,) = add(output, number)
        assert record == Manifest(store).done()[number]
        assert store.get(record.name) == picture(number)
        assert (record.digest, record.size) == (job(number).digest, len(picture(number)))
        assert (record.worker, record.seconds, record.error) == ("w", 0.25, "")
    assert output.close() == ()
    pictures = [name for name in store.names() if not name.startswith("manifest/")]
    assert pictures == ["0000/00000003.png", "0001/00010002.png"]


def test_a_picture_is_recorded_after_it_is_there_and_not_if_it_is_not(store, monkeypatch):
    output = opened(store, "folder")
    add(output, 0)
    with monkeypatch.context() as patched:
        patched.setattr(store, "put", lambda *a: (_ for _ in ()).throw(StoreError("full")))
        with pytest.raises(StoreError):
            add(output, 1)
    seen = []
    monkeypatch.setattr(output.writer, "append", lambda r: seen.append(store.has(r.name)))
    add(output, 2)
    assert seen == [True] and list(Manifest(store).done()) == [0]


@pytest.mark.parametrize("format", SHARDS)
def test_a_shard_is_whole_or_not_there(store, format):
    output = opened(store, format, limits=Limits(pictures=3))
    assert [add(output, n) for n in range(2)] == [(), ()]
    assert list(store.names()) == [] and len(Manifest(store).done()) == 0
    records = add(output, 2)
    assert [record.number for record in records] == [0, 1, 2]
    assert dict(Manifest(store).done()) == {record.number: record for record in records}
    assert add(output, 3) == ()
    (last,) = output.close()
    assert last.number == 3 and last.name != records[0].name
    assert list(Manifest(store).done()) == [0, 1, 2, 3] and output.close() == ()


@pytest.mark.parametrize("format", SHARDS)
def test_an_abandoned_shard_leaves_nothing(store, format, tmp_path):
    output = opened(store, format)
    add(output, 0)
    output.abandon()
    output.abandon()
    assert output.close() == () and len(Manifest(store).done()) == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    add(output, 1)
    assert [record.number for record in output.close()] == [1]


@pytest.mark.parametrize("format", SHARDS)
@pytest.mark.parametrize(
    "limits", [Limits(pictures=2), Limits(size=2 * len(picture(0))), Limits(seconds=20)]
)
def test_a_shard_ends_at_the_first_of_its_limits(store, format, limits):
    ticks = itertools.count(0, 10)  # ten seconds from picture to picture
    output = opened(store, format, limits=limits, clock=lambda: next(ticks))
    assert add(output, 0) == ()
    assert len(add(output, 0)) == 2


@pytest.mark.parametrize("format", SHARDS)
def test_a_worker_that_dies_between_records_and_shard_has_done_nothing(store, format, monkeypatch):
    """Its records are there and do not count, so that the pictures come once into the shards."""
    draw(store, [0], format)
    output = opened(store, format)
    add(output, 1)
    monkeypatch.setattr(type(output._draft), "keep", lambda self: (_ for _ in ()).throw(KeyError))
    with pytest.raises(KeyError):
        output.close()
    monkeypatch.undo()
    assert list(Manifest(store).all()) == [0, 1] and list(Manifest(store).done()) == [0]
    done = draw(store, [0, 1], format)
    assert list(done) == [0, 1]
    assert len([name for name in store.names() if name.startswith("shards/")]) == 2


@pytest.mark.parametrize("format", SHARDS)
def test_a_full_disk_costs_the_open_shard_alone(store, format, monkeypatch, tmp_path):
    output = opened(store, format, limits=Limits(pictures=2))
    for number in range(3):
        add(output, number)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(output, "_end", full)
        with pytest.raises(StoreError, match="No space left on device") as told:
            output.close()
    assert "\n" not in str(told.value)
    assert list(Manifest(store).done()) == [0, 1]
    assert not [path for path in tmp_path.rglob(".*")]
    for number in (2, 3):
        records = add(output, number)
    assert [record.number for record in records] == [2, 3]


def test_threads_may_share_an_output(store):
    output = opened(store, "webdataset", limits=Limits(pictures=7))
    threads = [
        threading.Thread(target=lambda some=some: [add(output, n) for n in some])
        for some in (range(0, 20), range(20, 40))
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    output.close()
    assert list(Manifest(store).done()) == list(range(40))


def test_a_tar_is_the_same_bytes_for_the_same_pictures_and_says_where_each_is(tmp_path):
    tars = []
    for name in ("one", "two"):
        store = open_store(tmp_path / name)
        done = draw(store, range(3), "webdataset", worker=name)
        tars.append(store.get(done[0].name))
        for number, record in done.items():
            assert store.get(record.name, record.offset, record.size) == picture(number)
    assert tars[0] == tars[1]
    with tarfile.open(fileobj=io.BytesIO(tars[0])) as tar:
        names = tar.getnames()
        assert tar.extractfile("00000001.txt").read() == b"a cat, number 1"
    assert names[:3] == ["00000000.png", "00000000.txt", "00000000.json"] and len(names) == 9


def test_tars_are_read_by_the_data_set_of_shards(store):
    pytest.importorskip("webdataset")
    from ldm.data.shards import CaptionedShards

    draw(store, range(5), "webdataset", limits=Limits(pictures=2))
    items = list(CaptionedShards(str(store.folder / "shards"), 8, shuffle=0))
    assert {item["txt"] for item in items} == {f"a cat, number {n}" for n in range(5)}
    for item in items:
        number = int(item["txt"].split()[-1])
        assert np.array_equal(np.rint((item["jpg"] + 1) * 127.5), pixels(number))


def test_parquet_is_read_by_the_data_set_of_the_hub(store, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    from ldm.data.hub import CaptionedDataset

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    draw(store, range(130), "parquet")  # more than two groups of rows
    data = CaptionedDataset(str(store.folder / "shards"), 8)
    assert isinstance(data.pictures.features["image"], datasets.Image)
    assert len(data) == 130 and data[129]["txt"] == "a cat, number 129"
    assert np.array_equal(np.rint((data[70]["jpg"] + 1) * 127.5), pixels(70))


def test_a_folder_is_read_by_the_data_set_of_pictures(store):
    from ldm.data.folder import ImageFolder

    draw(store, range(2))
    data = ImageFolder(str(store.folder), 8)
    assert [item["file_path_"] for item in data] == [
        str(store.folder / picture_name(n)) for n in range(2)
    ]


@pytest.mark.parametrize("format", SHARDS)
def test_a_prompt_of_any_characters_is_written(store, format, caplog):
    odd = job(0)._replace(values={"prompt": "a \udc80 cat\0\n\U0001f600" + "x" * 5000})
    output = opened(store, format)
    with caplog.at_level(logging.WARNING):
        output.add(odd, picture(0), "p \udc80")
        (record,) = output.close()
    (sample,) = samples(store, [record])
    assert sample.fault == "" and sample.caption.endswith("\n\U0001f600" + "x" * 5000)


@pytest.mark.parametrize("format", SHARDS)
def test_a_prompt_that_is_the_default_is_the_caption_too(store, format):
    output = opened(store, format)
    output.add(job(0)._replace(values={}), picture(0))
    (sample,) = samples(store, output.close())
    assert sample.caption == "a painting of a virus monster playing guitar"


def test_an_unknown_format_names_those_that_there_are(store):
    with pytest.raises(UserError, match="expected folder, webdataset or parquet; choose one"):
        opened(store, "zip")


def test_parquet_without_pyarrow_is_one_line(store, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pyarrow, which is not installed.*\[scale\]"):
        opened(store, "parquet")

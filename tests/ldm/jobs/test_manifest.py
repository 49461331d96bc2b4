"""The manifest: a part for each writer, the last record counts, torn lines do not."""

from __future__ import annotations

import logging
import threading

import pytest
from drawn_jobs import job

from ldm.jobs.manifest import Manifest, ManifestWriter, Record
from ldm.jobs.records import to_line
from ldm.jobs.store import StoreError, open_store


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "run")


def failed(number: int, error: str = "none") -> Record:
    return Record(number, job(number).digest, error=error)


def test_what_was_appended_is_read_by_others_at_once(store):
    with ManifestWriter(store, "w0") as writer:
        writer.append(failed(1))
        assert dict(Manifest(store).done()) == {1: failed(1)}
        writer.append(failed(2), failed(3))
        assert list(Manifest(store).done()) == [1, 2, 3]


def test_a_manifest_that_is_not_there_is_empty(store, tmp_path):
    assert dict(Manifest(store).done()) == {} and Manifest(store).parts() == []
    assert not list(tmp_path.iterdir())


def test_a_writer_that_wrote_nothing_leaves_no_file(store):
    with ManifestWriter(store, "w0") as writer:
        writer.flush()
    assert list(store.names()) == []


def test_writers_of_one_name_have_parts_of_their_own(store):
    writers = [ManifestWriter(store, "node 1/gpu:0") for _ in range(3)]
    for number, writer in enumerate(writers):
        writer.append(failed(number))
    assert len(Manifest(store).parts()) == 3
    assert all("node-1-gpu-0" in name for name in Manifest(store).parts())
    assert list(Manifest(store).done()) == [0, 1, 2]


@pytest.mark.parametrize("place", ["folder", "memory://test-of-one-worker"])
def test_one_worker_can_be_read_alone_whatever_others_are_called(tmp_path, place):
    store = open_store(tmp_path if place == "folder" else place)
    names = ["ray-a", "ray-ab", "ray-a-b", "ray-a-0123456789ab"]
    for number, name in enumerate(names):
        with ManifestWriter(store, name) as writer:
            writer.append(failed(number))
    assert [list(Manifest(store, name).done()) for name in names] == [[0], [1], [2], [3]]
    assert dict(Manifest(store, "ray").done()) == {}


def test_a_later_run_counts_whatever_its_workers_are_called(store):
    for generation, worker in enumerate(("zebra", "ant", "mole")):
        with ManifestWriter(store, worker) as writer:
            writer.append(failed(1, f"by {worker}"))
        assert writer.generation == generation
        assert Manifest(store).done()[1].error == f"by {worker}"


def test_generations_beyond_five_digits_are_still_in_order(store):
    for generation, text in ((99_999, "old"), (100_000, "new")):
        name = f"manifest/{generation}-w-ab.jsonl"
        store.put(name, to_line(failed(1, text)))
    assert Manifest(store).done()[1].error == "new"
    assert Manifest(store).next_generation() == 100_001


def test_a_closed_writer_goes_on_in_another_part(store):
    writer = ManifestWriter(store)
    writer.append(failed(1))
    writer.close()
    writer.close()
    writer.append(failed(2))
    writer.close()
    assert len(Manifest(store).parts()) == 2 and list(Manifest(store).done()) == [1, 2]


def test_a_torn_end_and_damaged_lines_are_left_out_and_said(store, caplog):
    lines = [to_line(failed(number)) for number in range(5)]
    lines[1] = b"\0" * 80 + b"\n"
    lines[3] = lines[3].replace(b'"number"', b'"numbre"')
    store.put("manifest/00000-w-ab.jsonl", b"".join(lines) + to_line(failed(5))[:-1])
    with caplog.at_level(logging.WARNING):
        assert list(Manifest(store).done()) == [0, 2, 4]
    assert "00000-w-ab.jsonl: left out 3 of its lines" in caplog.text


def test_a_line_without_end_takes_no_memory_and_costs_only_itself(store):
    store.put("manifest/00000-w-ab.jsonl", b"[" * 1_000_000 + b"\n" + to_line(failed(1)))
    assert list(Manifest(store).done()) == [1]


def test_other_files_in_the_folder_are_no_parts(store):
    for name in ("notes.txt", "00000-w-ab.jsonl.bak", "w.jsonl", "sub/00000-w-ab.jsonl"):
        store.put(f"manifest/{name}", to_line(failed(1)))
    assert Manifest(store).parts() == []


def test_threads_may_share_a_writer(store):
    writer = ManifestWriter(store)
    numbers = [range(k, 80, 4) for k in range(4)]

    def write(some):
        for number in some:
            writer.append(failed(number))

    threads = [threading.Thread(target=write, args=(some,)) for some in numbers]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    writer.close()
    assert list(Manifest(store).done()) == list(range(80))
    assert len(Manifest(store).parts()) == 1


def test_a_part_that_cannot_be_listed_or_read_is_one_line(store, tmp_path):
    store.put("manifest/00000-w-ab.jsonl", b"")
    (tmp_path / "run/manifest/00000-w-ab.jsonl").unlink()
    (tmp_path / "run/manifest/00000-w-ab.jsonl").symlink_to("/etc/hostname")
    with pytest.raises(StoreError, match="cannot be read"):
        Manifest(store).done()

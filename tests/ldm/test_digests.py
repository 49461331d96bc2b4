"""Hashes of files: right, and remembered only for as long as the file is the same."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from ldm import digests
from ldm.digests import file_hash, remembered_hash
from ldm.keeping import cache_file


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file that has rested; hashes of files of its size are remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "KEPT_FROM", 4)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    # Each call is as if by another process.
    monkeypatch.setattr(digests, "_remembered", digests._remembered.__wrapped__)
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def read(monkeypatch):
    """The files that are read to their end."""
    paths = []

    def reads(path):
        paths.append(path)
        return file_hash(path)

    monkeypatch.setattr(digests, "file_hash", reads)
    return paths


@pytest.mark.parametrize("size", [0, 1, digests._BLOCK, digests._BLOCK + 1])
def test_a_hash_is_that_of_the_whole_file(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert file_hash(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    assert remembered_hash(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_large_file_is_read_once_by_whatever_name(file, read):
    link = file.with_name("link")
    link.symlink_to(file)
    assert len({remembered_hash(path) for path in (file, file, link)}) == 1
    assert len(read) == 1


def test_small_files_leave_no_table(file, read, monkeypatch):
    monkeypatch.setattr(digests, "KEPT_FROM", 100)
    remembered_hash(file)
    remembered_hash(file)
    assert len(read) == 2 and not cache_file("hashes").exists()


def test_one_process_reads_a_small_file_once_until_it_changes(tmp_path, read):
    path = tmp_path / "small"
    path.write_bytes(b"small")
    first = remembered_hash(path)
    assert remembered_hash(path) == first and len(read) == 1
    path.write_bytes(b"other one")
    assert remembered_hash(path) == hashlib.sha256(b"other one").hexdigest() and len(read) == 2


def _write_again(path):
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(1, 1))


def _put_another_in_its_place(path):
    times = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"WEIGHTS")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [_write_again, _put_another_in_its_place])
def test_another_content_of_the_same_length_is_another_hash(file, change):
    before = remembered_hash(file)
    os.utime(file, ns=(1, 1))
    remembered_hash(file)
    change(file)
    assert remembered_hash(file) == hashlib.sha256(b"WEIGHTS").hexdigest() != before


def test_a_file_that_was_just_written_or_changes_meanwhile_is_not_remembered(
    file, read, monkeypatch
):
    monkeypatch.setattr(digests, "SETTLED", 1e6)
    remembered_hash(file)
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    states = iter([(7, 1, 1, 1, 1), (8, 2, 2, 1, 1)])
    with monkeypatch.context() as within:
        within.setattr(digests, "identity", lambda path: next(states))
        remembered_hash(file)
    assert not cache_file("hashes").exists() and len(read) == 2


@pytest.mark.parametrize("entry", [3, [], [1, "x"], None, {"a": 1}])
def test_an_entry_that_says_no_hash_is_computed_again(file, entry):
    right = remembered_hash(file)
    table = json.loads(cache_file("hashes").read_text())
    (name,) = table
    state = table[name][:-1]
    for each in (entry, [*state, 7], [*state, "ab"]):
        cache_file("hashes").write_text(json.dumps({name: each}))
        assert remembered_hash(file) == right


def test_only_the_last_files_are_remembered(file, monkeypatch):
    monkeypatch.setattr(digests, "MOST", 2)
    for name in "abc":
        file.with_name(name).write_bytes(name.encode() * 8)
        remembered_hash(file.with_name(name))
    assert [name[-1] for name in json.loads(cache_file("hashes").read_text())] == ["b", "c"]

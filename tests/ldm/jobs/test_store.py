"""Places for a run's files: whole or not at all, names that stay inside, one-line refusals."""

from __future__ import annotations

import errno
import os
import pickle
import sys

import pytest

from ldm.jobs.base import checked_name, plain
from ldm.jobs.store import StoreError, open_store


@pytest.fixture(params=["folder", "file", "memory"])
def store(request, tmp_path):
    urls = {
        "folder": str(tmp_path / "run"),
        "file": (tmp_path / "run").as_uri(),
        "memory": f"memory://{tmp_path}/run",
    }
    if request.param == "memory":
        pytest.importorskip("fsspec")
    return open_store(urls[request.param])


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_was_put_is_there_whole_and_in_parts(store):
    store.put("0000/a.png", b"0123456789")
    assert store.get("0000/a.png") == b"0123456789"
    assert store.get("0000/a.png", 3, 4) == b"3456"
    assert store.get("0000/a.png", 8) == b"89"
    assert store.get("0000/a.png", 3, 0) == b""
    with store.open("0000/a.png") as file:
        file.seek(9)
        assert file.read() == b"9"


def test_a_file_is_replaced(store):
    store.put("a", b"old, and longer")
    store.put("a", b"new")
    assert store.get("a") == b"new"


def test_a_file_that_is_not_there_is_told_as_missing(store):
    store.put("a/b", b"")
    assert store.has("a/b") and not store.has("a") and not store.has("b")
    for read in (store.get, store.open):
        with pytest.raises(FileNotFoundError):
            read("b")


def test_names_are_listed_by_folder_without_hidden_ones(store):
    for name in ("top", "a/1", "a/b/2", "ab/3"):
        store.put(name, b"x")
    draft = store.draft("a/in-the-making")
    draft.path.write_bytes(b"half")
    assert sorted(store.names()) == ["a/1", "a/b/2", "ab/3", "top"]
    assert sorted(store.names("a")) == ["a/1", "a/b/2"]
    assert list(store.names("none")) == []
    draft.drop()


def test_a_draft_is_seen_when_it_is_kept_and_gone_when_it_is_dropped(store, tmp_path):
    for name in ("kept", "dropped"):
        draft = store.draft(f"shards/{name}")
        draft.path.write_bytes(name.encode())
        assert not store.has(f"shards/{name}")
        draft.keep() if name == "kept" else draft.drop()
        assert not draft.path.exists()
    assert list(store.names()) == ["shards/kept"]
    assert store.get("shards/kept") == b"kept"


def test_a_removed_file_is_gone_and_removing_it_again_is_no_error(store):
    store.put("a/b", b"x")
    store.remove("a/b")
    store.remove("a/b")
    assert list(store.names()) == []


def test_checking_leaves_no_trace(store, tmp_path):
    store.check()
    assert list(store.names()) == [] and not list(tmp_path.iterdir())


def test_a_store_can_be_sent_to_another_process(store):
    store.put("a", b"x")
    assert pickle.loads(pickle.dumps(store)).get("a") == b"x"


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../a", "a/../../b", "a//b", "a/", ".hidden", "a/.b", "a\\..\\b", "c:a"]
    + ["a\0b", "a\nb", "a" * 256],
)
def test_a_name_that_leads_elsewhere_is_refused_by_every_call(store, name):
    calls = [store.get, store.open, store.has, store.draft, store.remove, store.log]
    for call in [*calls, lambda name: store.put(name, b"x")]:
        with pytest.raises(StoreError, match="stays in its folder") as caught:
            call(name)
        assert "\n" not in str(caught.value)


def test_possible_names_are_left_as_they_are():
    for name in ("0000/00000012.png", "shards/00001-node-3-ab.tar", "a b/ü.png"):
        assert checked_name(name) == name
    assert plain("../../x\0" * 50) == "x-" * 29 + "x"  # 60 characters at most
    assert plain("...") == "worker"


def test_links_that_lead_out_are_not_followed(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/a").write_bytes(b"secret")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/out").symlink_to(tmp_path / "secret")
    (tmp_path / "run/file").symlink_to(tmp_path / "secret/a")
    store = open_store(tmp_path / "run")
    for act in (lambda: store.get("out/a"), lambda: store.put("out/b", b"x")):
        with pytest.raises(StoreError, match="leads out of"):
            act()
    with pytest.raises(StoreError, match="cannot be read"):
        store.get("file")
    store.put("file", b"mine")  # takes the link's place
    assert (tmp_path / "secret/a").read_bytes() == b"secret"
    assert [p.name for p in (tmp_path / "secret").iterdir()] == ["a"]


def test_the_run_may_itself_be_behind_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    open_store(tmp_path / "run").put("0000/a", b"x")
    assert (tmp_path / "disk/0000/a").read_bytes() == b"x"


@pytest.mark.parametrize("step", ["write", "fsync", "replace", "open"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch, step):
    store = open_store(tmp_path)
    store.put("0000/a", b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, step, full)
        with pytest.raises(StoreError, match="No space left on device.*make room") as caught:
            store.put("0000/a", b"new")
    assert "0000/a" in str(caught.value) and "\n" not in str(caught.value)
    assert store.get("0000/a") == b"old"
    assert [path.name for path in (tmp_path / "0000").iterdir()] == ["a"]


def test_half_a_write_is_gone_on_with(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data)[:3]))
    store = open_store(tmp_path)
    store.put("a", b"0123456789")
    store.log("l").append([b"0123456789\n"])
    assert store.get("a") == b"0123456789" and store.get("l.jsonl") == b"0123456789\n"


def test_bytes_and_names_are_flushed_to_the_disk_before_the_file_counts(tmp_path, monkeypatch):
    seen = []
    sync, replace = os.fsync, os.replace

    def kind(file):
        return "folder" if os.path.isdir(f"/proc/self/fd/{file}") else "file"

    monkeypatch.setattr(os, "fsync", lambda file: (seen.append(kind(file)), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *a: (seen.append("rename"), replace(*a)))
    store = open_store(tmp_path / "run")
    store.put("0000/a", b"x")
    assert seen == ["folder", "folder", "file", "rename", "folder"]  # two folders are new
    seen.clear()
    store.put("0000/b", b"x")
    assert seen == ["file", "rename", "folder"]
    log = store.log("log")
    seen.clear()
    log.append([b"1\n", b"2\n"])
    assert seen == ["file"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    store = open_store(tmp_path / "file/run")
    for act in (store.check, lambda: store.put("a", b"x"), lambda: store.log("l")):
        with pytest.raises(StoreError, match="expected a folder that can be written to"):
            act()


def test_a_folder_where_a_file_should_go_is_not_replaced(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/mine").write_bytes(b"x")
    with pytest.raises(StoreError, match="is a folder"):
        open_store(tmp_path).put("a", b"x")
    with pytest.raises(StoreError, match="a cannot be read"):
        open_store(tmp_path).get("a")
    assert (tmp_path / "a/mine").exists()


def test_two_writers_never_share_a_log(tmp_path):
    store = open_store(tmp_path)
    store.log("manifest/l")
    with pytest.raises(StoreError, match="File exists"):
        store.log("manifest/l")


def test_a_log_on_a_full_disk_keeps_whole_lines_only(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    log = store.log("l")
    log.append([b"one\n"])
    write = os.write

    def half(file, data):
        write(file, bytes(data)[:2])
        full()

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(StoreError, match="No space left"):
            log.append([b"two\n", b"three\n"])
    log.append([b"four\n"])
    log.close()
    assert store.get("l.jsonl") == b"one\nfour\n"


@pytest.mark.parametrize("url", ["ftp://host/a", "http://host/a", "sftp://host/a", "ldm://x"])
def test_an_unknown_kind_of_address_is_refused_with_those_that_are_known(url):
    with pytest.raises(StoreError, match="s3://, .*mount the place"):
        open_store(url)


@pytest.mark.parametrize(
    "url",
    ["s3://KEYID:hidden@bucket/run", "s3://hidden@bucket/run", "az://c/run?sig=hidden"]
    + ["abfs://c:hidden@account/run", "gs://bucket/run?token=hidden"],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(url):
    with pytest.raises(StoreError, match="environment variables") as caught:
        open_store(url)
    assert "hidden" not in str(caught.value) and "KEYID" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "file://host/a", "file://"])
def test_an_address_of_nothing_is_refused(url):
    with pytest.raises(StoreError, match="expected"):
        open_store(url)


@pytest.mark.parametrize(
    "url, package, hint",
    [
        ("s3://bucket/run", "s3fs", r"\[scale\]"),
        ("gs://bucket/run", "gcsfs", "pip install gcsfs"),
        ("memory://run", "fsspec", r"\[scale\]"),
    ],
)
def test_a_package_that_is_not_there_is_one_line_with_its_name(monkeypatch, url, package, hint):
    registry = pytest.importorskip("fsspec.registry")
    monkeypatch.delitem(registry._registry, url.split(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"needs {package}, which is not installed.*{hint}"):
        open_store(url).put("a", b"x")


def test_opening_a_place_asks_nobody_and_makes_nothing(tmp_path):
    open_store("s3://no-such-bucket/run")
    open_store(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []

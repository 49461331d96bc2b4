"""An S3 server (moto, on this machine) as the place of a run; what object stores alone have."""

from __future__ import annotations

import os

import pytest
from drawn_jobs import draw, job, picture

from ldm.jobs import object_store
from ldm.jobs.manifest import Manifest, ManifestWriter, Record
from ldm.jobs.object_store import ObjectLog
from ldm.jobs.samples import read_picture
from ldm.jobs.store import StoreError, open_store
from ldm.jobs.verify import merge, set_aside, verify

fsspec = pytest.importorskip("fsspec")
SECRET = "abcd-this-is-the-secret-key"


@pytest.fixture(scope="module")
def s3():
    """The address of an empty bucket; the environment says where it is, and holds keys."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    names = [name for name in os.environ if name.startswith("AWS")]
    ours = {
        "AWS_ACCESS_KEY_ID": "the-key-of-a-test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name in names:
            patched.delenv(name)
        for name, value in ours.items():
            patched.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
        yield "s3://bucket"
    server.stop()


@pytest.mark.parametrize("format", ["folder", "webdataset", "parquet"])
def test_a_run_on_s3_is_written_resumed_verified_mended_and_merged(s3, format, tmp_path):
    store = open_store(f"{s3}/{format}")
    store.check()
    assert list(store.names()) == []
    draw(store, range(3), format)
    done = draw(store, range(5), format)
    assert list(done) == [0, 1, 2, 3, 4] and verify(store) == []
    assert [done[n].digest for n in range(5)] == [job(n).digest for n in range(5)]
    assert all(read_picture(store, done[n]) == picture(n) for n in range(5))
    store.put(done[4].name, b"broken")
    damages = verify(store)
    assert [each.number for each in damages] == ([4] if format == "folder" else [3, 4])
    assert merge([store], local := open_store(tmp_path), format) == damages
    assert len(Manifest(local).done()) == 5 - len(damages) and verify(local) == []
    set_aside(store, damages)
    assert len(Manifest(store).done()) == (5 if format == "folder" else 3)


def test_a_bucket_that_is_not_there_is_one_line(s3):
    store = open_store("s3://no-such-bucket/run")
    for act in (store.check, lambda: store.put("a", b"x")):
        with pytest.raises(
            StoreError, match="s3://no-such-bucket/run/.* cannot be written"
        ) as told:
            act()
        assert "\n" not in str(told.value)


class _Failing:
    def pipe_file(self, path, data):
        raise RuntimeError(f"signature of {SECRET} refused\nfor {path}")


def test_keys_that_a_client_quotes_are_blotted_out(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(object_store, "_connect", lambda url: (_Failing(), "bucket"))
    with pytest.raises(StoreError, match=r"signature of \*\*\* refused for bucket/a") as told:
        open_store("s3://bucket").put("a", b"x")
    assert told.value.__cause__ is None and told.value.__suppress_context__


def test_a_log_is_uploaded_when_it_is_long_or_old_or_flushed(tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "LINES", 3)
    store, now = open_store(f"memory://{tmp_path}"), [0.0]
    log = ObjectLog(store, "manifest/l", clock=lambda: now[0])
    log.append([b"1\n", b"2\n"])
    assert list(store.names()) == []
    log.append([b"3\n"])
    assert list(store.names()) == ["manifest/l-000000.jsonl"]
    log.append([b"4\n"])
    now[0] += object_store.SECONDS
    log.append([b"5\n"])
    log.append([b"6\n"])
    log.close()
    log.close()
    parts = [store.get(name) for name in store.names()]
    assert parts == [b"1\n2\n3\n", b"4\n5\n", b"6\n"]


def test_lines_that_could_not_be_uploaded_are_uploaded_with_the_next(tmp_path, monkeypatch):
    store = open_store(f"memory://{tmp_path}")
    log = ObjectLog(store, "l")
    log.append([b"1\n"])

    def fail(*_):
        raise StoreError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(store, "put", fail)
        with pytest.raises(StoreError):
            log.flush()
    log.append([b"2\n"])
    log.flush()
    assert [store.get(name) for name in store.names()] == [b"1\n2\n"]


def test_a_killed_worker_loses_records_that_were_not_uploaded_and_no_more(tmp_path):
    store = open_store(f"memory://{tmp_path}")
    writer = ManifestWriter(store, "killed")
    for number in range(5):
        if number == 3:
            writer.flush()
        writer.append(Record(number, job(number).digest, error="none"))
    assert list(Manifest(store).done()) == [0, 1, 2]


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_a_network_that_fails_is_no_damage_of_shards(tmp_path, format, monkeypatch):
    store = open_store(f"memory://{tmp_path}")
    draw(store, range(3), format)
    files, _ = store._files()
    opened = files.open

    def broken(path, *rest):
        file = opened(path, *rest)
        if "/shards/" in path:
            monkeypatch.setattr(file, "read", lambda *_: (_ for _ in ()).throw(OSError("reset")))
        return file

    monkeypatch.setattr(files, "open", broken)
    with pytest.raises(StoreError, match="shards/.* cannot be read .*reset"):
        verify(store)

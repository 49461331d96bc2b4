"""Verifying finds every change of a picture; merging takes each picture once, or nothing."""

from __future__ import annotations

import random

import pytest
from drawn_jobs import draw, job, picture

from ldm.errors import UserError
from ldm.jobs import verify as verify_module
from ldm.jobs.manifest import Manifest, ManifestWriter, Record
from ldm.jobs.output import OUTPUTS
from ldm.jobs.records import picture_name, to_line
from ldm.jobs.samples import read_picture, samples
from ldm.jobs.shard_output import Limits
from ldm.jobs.store import StoreError, open_store
from ldm.jobs.verify import merge, set_aside, verify

SHARDS = [name for name in OUTPUTS if name != "folder"]


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "run")


def files(store) -> dict[str, bytes]:
    return {name: store.get(name) for name in store.names()}


def faults(store) -> dict[int, str]:
    return {each.number: each.fault for each in verify(store)}


@pytest.mark.parametrize("format", OUTPUTS)
def test_an_undamaged_run_has_no_damages_and_its_pictures_are_read_back(store, format):
    done = draw(store, [*range(70), 20_000], format)
    counts = []
    assert verify(store, counts.append) == []
    assert counts[-1] == 71 and counts == sorted(counts)
    for sample in samples(store, done.by_place()):
        number = sample.record.number
        assert sample.data == picture(number) == read_picture(store, done[number])
        if format != "folder":
            assert sample.caption == f"a cat, number {number}"
            assert sample.parameters == f"a cat\nSeed: {number}"


def test_missing_shortened_and_changed_pictures_are_found(store):
    draw(store, range(200))
    store.remove(picture_name(3))
    store.put(picture_name(50), picture(50)[:-1])
    store.put(picture_name(70), picture(70)[:-1] + b"x")
    store.put(picture_name(199), b"")
    size = len(picture(0))
    assert faults(store) == {
        3: "is missing",
        50: f"has {size - 1} bytes and not {size}",
        70: "has other bytes than were written",
        199: f"has 0 bytes and not {size}",
    }
    with pytest.raises(UserError, match=r"picture 70 .* has other bytes.*--verify"):
        read_picture(store, Manifest(store).done()[70])


def test_a_file_that_cannot_be_read_is_damaged_and_the_others_are_checked(store, tmp_path):
    draw(store, range(3))
    (tmp_path / "run/0000/00000001.png").unlink()
    (tmp_path / "run/0000/00000001.png").symlink_to(tmp_path / "run/0000/00000000.png")
    assert list(faults(store)) == [1]


def test_what_could_not_be_drawn_is_not_damaged(store):
    draw(store, range(2))
    with ManifestWriter(store) as writer:
        writer.append(Record(2, job(2).digest, error="broken"))
    assert verify(store) == []


@pytest.mark.parametrize("format", SHARDS)
def test_a_damaged_shard_is_listed_whole_set_aside_and_drawn_again(store, format):
    done = draw(store, range(6), format, limits=Limits(pictures=3))
    name = done[1].name
    whole = store.get(name)
    start = whole.index(picture(1))
    store.put(name, whole[: start + 60] + b"\xaa" + whole[start + 61 :])
    found = faults(store)
    assert list(found) == [0, 1, 2]
    assert found[1] == "has other bytes than were written"
    assert found[0] == f"is in a shard whose picture 1 {found[1]}"
    set_aside(store, verify(store))
    assert list(Manifest(store).done()) == [3, 4, 5]
    assert list(draw(store, range(6), format)) == list(range(6))
    assert verify(store) == []


@pytest.mark.parametrize("format", SHARDS)
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.5])
def test_a_shortened_shard_is_damaged_and_never_a_traceback(store, format, kept):
    done = draw(store, range(5), format)
    name = done[0].name
    whole = store.get(name)
    store.put(name, whole[: int(kept * len(whole))])
    assert list(faults(store)) == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="expected the bytes that the manifest has recorded"):
        read_picture(store, done[4])


@pytest.mark.parametrize("format", SHARDS)
def test_whatever_bytes_change_in_a_shard_verification_comes_to_its_end(store, format):
    name = draw(store, range(3), format)[0].name
    whole, dice = store.get(name), random.Random(0)
    for _ in range(25):
        changed = bytearray(whole)
        for _ in range(dice.choice([1, 3, 30])):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        at = dice.randrange(len(changed))
        changed[at : at + dice.randrange(3)] = bytes(dice.randrange(3))
        store.put(name, bytes(changed))
        damages = verify(store)
        assert [each.number for each in damages] in ([], [0, 1, 2])
        assert all("\n" not in each.fault for each in damages)


@pytest.mark.parametrize("format", SHARDS)
def test_a_missing_shard_is_damage_and_its_pictures_are_not_done(store, format):
    done = draw(store, range(4), format, limits=Limits(pictures=2))
    store.remove(done[2].name)
    assert faults(store) == {2: "is missing", 3: "is missing"}
    assert list(Manifest(store).done()) == [0, 1]


@pytest.mark.parametrize("format", SHARDS)
def test_what_another_worker_drew_after_a_death_is_no_damage(store, format):
    with ManifestWriter(store, "z") as dead:  # of the same generation, and later by its name
        done = draw(store, range(3), format, worker="a")
        shard = done[0].name.replace("-a-", "-z-")
        dead.append(*(done[n]._replace(name=shard) for n in range(2)))
        dead.append(done[0]._replace(number=7, name=shard))
    assert faults(store) == {7: "is missing"}
    assert list(Manifest(store).done()) == [0, 1, 2]


@pytest.mark.parametrize("format", SHARDS)
def test_records_that_point_at_each_others_pictures_are_found(store, format):
    done = draw(store, range(3), format)
    with ManifestWriter(store) as writer:
        writer.append(done[0]._replace(offset=done[1].offset, sha256=done[1].sha256))
    assert "place" in faults(store)[0]


def test_a_manifest_cannot_lead_verification_out_of_its_folder(store, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    good = Record(0, job(0).digest, picture_name(0), job(1).digest, 6)
    line = to_line(good).replace(b"0000/00000000.png", b"../secret")
    store.put("manifest/00000-w-ab.jsonl", line)
    assert verify(store) == [] and len(Manifest(store).done()) == 0


@pytest.mark.parametrize("format", OUTPUTS)
def test_runs_of_other_numbers_become_one(tmp_path, format):
    runs = [open_store(tmp_path / name) for name in ("a", "b")]
    draw(runs[0], range(0, 5), format)
    draw(runs[1], range(3, 9), format)  # 3 and 4 are in both
    into = open_store(tmp_path / "all")
    assert merge(runs, into, format) == []
    done = Manifest(into).done()
    assert list(done) == list(range(9)) and verify(into) == []
    assert [done[n].digest for n in done] == [job(n).digest for n in range(9)]
    assert all(read_picture(into, done[n]) == picture(n) for n in done)
    before = files(into)
    assert merge(runs, into, format) == [] and files(into) == before


@pytest.mark.parametrize("format", SHARDS)
def test_shards_become_a_folder_or_shards_of_the_other_kind(store, tmp_path, format):
    draw(store, range(5), format)
    other = next(name for name in SHARDS if name != format)
    for kind in ("folder", other):
        into = open_store(tmp_path / kind)
        assert merge([store], into, kind) == [] and verify(into) == []
        assert len(Manifest(into).done()) == 5
    (sample, *_) = samples(into, Manifest(into).done().by_place())
    assert (sample.caption, sample.parameters) == ("a cat, number 0", "a cat\nSeed: 0")


def test_merging_packs_shards_without_what_was_drawn_again(store, tmp_path, caplog):
    draw(store, range(4), "webdataset")
    assert verify(store) == [] and caplog.text == ""
    done = draw(store, [1], "webdataset", kind="dog")
    assert verify(store) == [] and "still hold 1 pictures" in caplog.text
    assert len({record.name for record in done.by_place()}) == 2
    into = open_store(tmp_path / "all")
    merge([store], into, "webdataset")
    (name,) = [name for name in into.names() if name.startswith("shards/")]
    assert into.get(name).count(b"\x89PNG") == 4 and Manifest(into).done().stale == 0
    assert read_picture(into, Manifest(into).done()[1]) == picture(1, "dog")


def test_two_pictures_of_one_number_are_refused_before_anything_is_copied(tmp_path):
    runs = [open_store(tmp_path / name) for name in ("a", "b")]
    draw(runs[0], range(20))
    draw(runs[1], range(10, 20), kind="dog")
    into = open_store(tmp_path / "all")
    with pytest.raises(UserError, match=r"10 \(.*/a and .*/b\).*5 more.*nothing was merged"):
        merge(runs, into)
    assert files(into) == {}
    merge(runs[:1], into)
    before = files(into)
    with pytest.raises(UserError, match=r"10 \(.*/all and .*/b\)"):
        merge(runs[1:], into)
    assert files(into) == before


def test_shards_of_a_folder_are_refused_as_it_has_no_captions(store, tmp_path):
    draw(store, range(2))
    into = open_store(tmp_path / "all")
    with pytest.raises(UserError, match="no captions.*--format folder"):
        merge([store], into, "webdataset")
    assert files(into) == {}


def test_a_picture_damaged_in_one_run_is_taken_from_another_else_it_is_named(tmp_path):
    runs = [open_store(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        draw(run, range(5))
    runs[0].put(picture_name(1), b"broken")
    for run in runs:
        run.put(picture_name(3), b"broken")
    into = open_store(tmp_path / "all")
    damages = merge(runs, into)
    assert [each.number for each in damages] == [3]
    assert list(Manifest(into).done()) == [0, 1, 2, 4] and verify(into) == []
    runs[1].put(picture_name(3), picture(3))
    assert merge(runs[1:], into) == [] and len(Manifest(into).done()) == 5


def test_errors_are_merged_where_no_run_has_the_picture(tmp_path):
    runs = [open_store(tmp_path / name) for name in ("a", "b")]
    draw(runs[1], [1])
    for run, numbers in zip(runs, ([1, 2], [2, 3]), strict=True):
        with ManifestWriter(run) as writer:
            for number in numbers:
                writer.append(Record(number, job(number).digest, error=f"{run.folder.name}"))
    into = open_store(tmp_path / "all")
    merge(runs, into)
    done = Manifest(into).done()
    assert {number: record.error for number, record in done.items()} == {1: "", 2: "a", 3: "b"}
    before = files(into)
    merge(runs, into)
    assert files(into) == before


@pytest.mark.parametrize("format", OUTPUTS)
def test_an_interrupted_merge_goes_on_where_it_stopped(store, tmp_path, format, monkeypatch):
    draw(store, range(6), format)
    into = open_store(tmp_path / "all")
    copy = verify_module._copy

    def stop_at_four(sample, *rest):
        if sample.record.number == 4:
            raise StoreError("the disk is full")
        copy(sample, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(verify_module, "_copy", stop_at_four)
        with pytest.raises(StoreError):
            merge([store], into, format)
    assert verify(into) == [] and not [path for path in (tmp_path / "all").rglob(".*")]
    assert list(Manifest(into).done()) == ([0, 1, 2, 3] if format == "folder" else [])
    merge([store], into, format)
    assert list(Manifest(into).done()) == list(range(6)) and verify(into) == []

"""Shards: every sample once over all workers, in an order that a seed decides."""

from __future__ import annotations

import json

import pytest
from tar_shards import picture, write, write_shards
from torch.utils.data import DataLoader

from ldm.data import shards as shards_module
from ldm.data.shard_names import expand_braces, shard_files
from ldm.data.shards import CaptionedShards, shuffled
from ldm.errors import UserError

pytest.importorskip("webdataset")
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture
def folder(tmp_path):
    """Four shards of three samples, 00 to 11."""
    write_shards(tmp_path, [3] * 4)
    return tmp_path


def texts(stream) -> list[str]:
    return [item["txt"] for item in stream]


ALL = [f"{k:02}" for k in range(12)]


def test_samples_are_framed_and_in_order_without_shuffling(folder):
    stream = CaptionedShards(str(folder), 8, shuffle=0)
    items = list(stream)
    assert [item["txt"] for item in items] == ALL
    assert items[0]["jpg"].shape == (8, 8, 3)


def test_the_order_follows_the_seed_and_changes_with_every_pass(folder):
    first, again = (CaptionedShards(str(folder), 8, seed=1) for _ in range(2))
    order = texts(first)
    assert order == texts(again) != ALL
    assert sorted(order) == ALL
    assert texts(first) != order
    assert texts(CaptionedShards(str(folder), 8, seed=2)) != order


def test_a_resumed_stream_takes_another_order(folder):
    begun, resumed = (CaptionedShards(str(folder), 8, seed=1) for _ in range(2))
    resumed.take_place(0, 1, samples=8)
    assert sorted(texts(resumed)) == ALL
    assert texts(resumed) != texts(begun)


def test_a_repeated_stream_goes_on_with_whole_passes(folder):
    stream = iter(CaptionedShards(str(folder), 8, repeat=True))
    passes = [[next(stream)["txt"] for _ in range(12)] for _ in range(3)]
    assert [sorted(order) for order in passes] == [ALL] * 3
    assert passes[0] != passes[1] != passes[2]


@pytest.mark.parametrize("pattern", ["part-00.tar", "part-{00..03}.tar"])
def test_workers_read_every_sample_once_with_fewer_shards_and_with_more(folder, pattern):
    stream = CaptionedShards(str(folder / pattern), 8)
    seen = texts(DataLoader(stream, batch_size=None, num_workers=2))
    assert sorted(seen) == (ALL[:3] if "{" not in pattern else ALL)


@pytest.mark.parametrize("consumers", [2, 3, 5])
def test_processes_share_the_samples_without_overlap(folder, consumers):
    seen = []
    for number in range(consumers):
        stream = CaptionedShards(str(folder), 8)
        stream.take_place(number, consumers)
        seen += texts(stream)
    assert sorted(seen) == ALL


def test_captions_are_found_in_each_of_their_places(tmp_path):
    samples = {
        "a": {"png": picture(), "txt": b" from\ntext "},
        "b": {"JPG": picture(), "caption": b"from caption"},
        "c": {"webp": picture(), "json": json.dumps({"prompt": "from json"}).encode()},
    }
    write(tmp_path / "a.tar", samples)
    stream = CaptionedShards(str(tmp_path / "a.tar"), 8, shuffle=0)
    assert texts(stream) == ["from text", "from caption", "from json"]


def test_bad_samples_and_the_rest_of_a_broken_shard_are_left_out(folder, caplog):
    samples = {
        "a": {"jpg": b"", "txt": b"empty"},
        "b": {"jpg": picture()[:200], "txt": b"truncated"},
        "c": {"txt": b"no picture"},
        "d": {"jpg": picture()},
        "e": {"jpg": picture(), "txt": b"caf\xe9"},
        "f": {"jpg": picture(), "json": b"{"},
        "g": {"jpg": picture(), "txt": b"good"},
    }
    write(folder / "part-04.tar", samples)
    (folder / "part-05.tar").write_bytes(b"no tar file at all")
    whole = (folder / "part-00.tar").read_bytes()
    (folder / "part-06.tar").write_bytes(whole[: len(whole) // 4])
    stream = CaptionedShards(str(folder), 8)
    seen = texts(stream)
    assert sorted(text for text in seen if text not in ("00", "01", "02"))[-1] == "good"
    assert set(ALL) <= set(seen)
    assert stream.bad_items.count >= 7
    assert [r.message for r in caplog.records if "part-00.tar and 6 more: left out" in r.message]


def test_shards_without_a_sample_that_can_be_read_are_refused(tmp_path):
    write(tmp_path / "a.tar", {"a": {"jpg": b"", "txt": b"a"}})
    (tmp_path / "b.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"none of 2 shards .*a\.tar"):
        CaptionedShards(str(tmp_path), 8)


def test_endless_bad_samples_end_a_stream_that_would_never_yield(folder, monkeypatch):
    stream = CaptionedShards(str(folder), 8)
    monkeypatch.setattr(shards_module, "MOST_IN_A_ROW", 5)
    monkeypatch.setattr(shards_module, "read_picture", refuse)
    with pytest.raises(UserError, match="5 samples in a row cannot be read"):
        next(iter(stream))


def refuse(*_, **__):
    raise shards_module.BadItem("gone")


def test_braces_ranges_stars_folders_and_lists_name_shards(folder):
    names = [str(folder / f"part-0{k}.tar") for k in range(4)]
    assert shard_files(str(folder)) == names
    assert shard_files(str(folder / "part-*.tar")) == names
    assert shard_files([str(folder / "part-{00..01}.tar"), names[1], names[3]]) == [
        names[0],
        names[1],
        names[3],
    ]
    assert expand_braces("{a,b}-{8..10}") == ["a-8", "a-9", "a-10", "b-8", "b-9", "b-10"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("part-{00..09}.tar", "no shard is called .*part-04.tar"),
        ("*.tgz", "no shard is called"),
        ("https://example.com/{0..9}.tar", "are not on disk"),
        ("pipe:cat a.tar", "are not on disk"),
    ],
)
def test_names_of_nothing_are_refused(folder, monkeypatch, pattern, message):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=message):
        shard_files(pattern)


def test_shuffling_holds_back_no_more_than_asked_and_loses_nothing():
    import numpy as np

    taken = []
    source = (taken.append(k) or k for k in range(100))
    out = shuffled(source, 10, np.random.default_rng(0))
    first = next(out)
    assert len(taken) == 11
    assert sorted([first, *out]) == list(range(100))

"""Names of files of attention maps, and folders that no two runs share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ldm.errors import UserError
from ldm.modules.attention_control.sites import Site
from ldm.pipelines import attention_files
from ldm.pipelines.attention_files import MapFolder, MapNames

DOWN = Site("input_blocks.4.1.transformer_blocks.0.attn2", "down", "cross", 1, 2, (16, 16))
DEEPER = replace(DOWN, path="input_blocks.4.1.transformer_blocks.1.attn2", number=3)
MID = Site("middle_block.1.transformer_blocks.0.attn2", "mid", "cross", 5, 4, (8, 12))
NAMES = MapNames([DOWN, DEEPER, MID])


@pytest.mark.parametrize(
    "site, time, name",
    [
        (DOWN, 981, "down_time0981_res016_num004.npy"),
        (DOWN, 1.0, "down_time0001_res016_num004.npy"),
        (DOWN, 312.41549, "down_time0312.415_res016_num004.npy"),
        (DEEPER, 981, "down_time0981_res016_num004_layer001.npy"),
        (MID, 981, "middle_time0981_res008x012.npy"),
    ],
)
def test_a_name_says_place_time_side_and_block(site, time, name):
    assert NAMES.name(site, time) == name


def test_the_first_folder_without_maps_is_used(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/notes.txt").write_text("mine")
    assert MapFolder(tmp_path / "m").claim() == tmp_path / "m"
    assert MapFolder(tmp_path / "m").claim() == tmp_path / "m-2"
    (tmp_path / "m-3").mkdir()
    (tmp_path / "m-3/maps.npz").write_bytes(b"")
    assert MapFolder(tmp_path / "m").claim() == tmp_path / "m-4"
    assert (tmp_path / "m/notes.txt").read_text() == "mine"


def test_looking_for_a_folder_makes_none(tmp_path):
    folder = MapFolder(tmp_path / "m")
    assert folder.path == tmp_path / "m"
    assert not list(tmp_path.iterdir())


def test_a_folder_is_claimed_once(tmp_path):
    folder = MapFolder(tmp_path / "m")
    assert folder.claim() == folder.claim() == tmp_path / "m"
    assert folder.of(0, "") == tmp_path / "m"
    assert folder.of(12, "source") == tmp_path / "m/batch0012/source"


def test_a_folder_that_another_run_takes_after_the_look_stays_its_own(tmp_path, monkeypatch):
    MapFolder(tmp_path / "m").claim()
    monkeypatch.setattr(attention_files, "_is_taken", lambda folder: False)
    late = MapFolder(tmp_path / "m")
    assert late.path == tmp_path / "m"
    assert late.claim() == tmp_path / "m-2"


def test_the_present_folder_has_siblings_too(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert MapFolder(".").claim() == tmp_path / "here"
    assert MapFolder(".").claim() == tmp_path / "here-2"


def test_a_file_in_the_folders_place_is_one_line(tmp_path):
    (tmp_path / "m").write_text("")
    with pytest.raises(UserError, match="is a file; expected a folder"):
        MapFolder(tmp_path / "m").claim()
    with pytest.raises(UserError, match="cannot be made"):
        MapFolder(tmp_path / "m" / "below").claim()

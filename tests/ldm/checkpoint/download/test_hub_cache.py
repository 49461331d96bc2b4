"""Where the hub keeps what was downloaded."""

from __future__ import annotations

import os

import pytest

from ldm.checkpoint.download.hub_cache import hub_cache, snapshots


def clear_environment(monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("HF_HUB_CACHE", "there"),
        ("HUGGINGFACE_HUB_CACHE", "there"),
        ("HF_HOME", "there/hub"),
        ("XDG_CACHE_HOME", "there/huggingface/hub"),
    ],
)
def test_the_hubs_cache_is_where_its_variables_say(tmp_path, monkeypatch, variable, expected):
    clear_environment(monkeypatch)
    monkeypatch.setenv(variable, str(tmp_path / "there"))
    assert hub_cache() == tmp_path / expected


def test_the_hubs_cache_is_in_the_home_folder_by_default(tmp_path, monkeypatch):
    clear_environment(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub_cache() == tmp_path / ".cache" / "huggingface" / "hub"


def test_the_revision_that_main_names_comes_first_then_the_newest(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--somebody--something"
    for age, revision in enumerate(("newest", "main-one", "oldest")):
        folder = home / "snapshots" / revision
        folder.mkdir(parents=True)
        os.utime(folder, (1e9 - age, 1e9 - age))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("main-one\n")
    names = [path.name for path in snapshots("somebody/something")]
    assert names == ["main-one", "newest", "oldest"]


def test_a_repository_that_was_not_downloaded_has_no_revisions(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert snapshots("somebody/something") == []

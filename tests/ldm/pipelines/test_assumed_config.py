"""A checkpoint without --config: a YAML beside it or its target counts, else one is assumed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ldm.pipelines.models import ROOT, find_model
from ldm.settings.generation import Txt2ImgSettings

DEMO = ROOT / "models/ldm/demo"


@pytest.fixture
def link(tmp_path) -> Path:
    """A link to weights in another folder."""
    store, here = tmp_path / "store", tmp_path / "here"
    store.mkdir()
    here.mkdir()
    (store / "m.safetensors").write_bytes(b"weights")
    (here / "mine.safetensors").symlink_to(store / "m.safetensors")
    return here / "mine.safetensors"


def chosen(ckpt: Path, **settings):
    return find_model(Txt2ImgSettings(prompt="x", ckpt=str(ckpt), **settings))


def test_that_version_1_is_assumed_is_said(link):
    choice = chosen(link)
    assert choice.config_path.name == "v1-inference.yaml"
    assert f"No YAML is beside {link}, so configs/" in choice.notice
    assert "v1-inference.yaml is assumed; --config" in choice.notice


@pytest.mark.parametrize("place", ["here/mine.yaml", "here/config.yml", "store/m.YML"])
def test_nothing_is_said_of_a_model_with_its_own_yaml(link, place):
    own = link.parents[1] / place
    shutil.copy(DEMO / "config.yaml", own)
    choice = chosen(link)
    assert choice.config_path == own and choice.notice is None


def test_nothing_is_said_of_a_model_whose_yaml_was_given(link):
    assert chosen(link, config=str(DEMO / "config.yaml")).notice is None

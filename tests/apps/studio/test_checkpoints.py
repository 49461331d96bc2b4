"""The checkpoint menu: names of what lies in models/, and never a path from a visitor."""

from __future__ import annotations

import pytest

from apps.studio.checkpoints import FOLDERS, checkpoint_named, checkpoints_there, described
from ldm.errors import UserError


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("apps.studio.checkpoints.ROOT", tmp_path)

    def put(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")

    return put


def names(*besides):
    return [each.name for each in checkpoints_there(*besides)]


def test_files_of_all_folders_are_there_by_the_name_that_says_most(project):
    project("models/ldm/demo/model.safetensors", "models/Stable-diffusion/Dream.ckpt")
    project("models/checkpoints/v1/last.ckpt", "models/ldm/demo/config.yaml")
    project("models/lora/ink.safetensors", "models/ldm/.part/model.ckpt")
    assert names() == ["demo", "Dream", "v1"]


def test_no_two_entries_have_one_name(project):
    project("models/ldm/a/x.ckpt", "models/ldm/b/x.safetensors")
    assert names() == ["a/x.ckpt", "b/x.safetensors"]


def test_a_folder_of_diffusers_is_one_entry(project):
    project("models/ldm/sd/model_index.json", "models/ldm/sd/unet/model.safetensors")
    (entry,) = checkpoints_there()
    assert (entry.name, entry.path.name) == ("sd", "sd")


def test_the_command_lines_checkpoint_is_there_once(project, tmp_path):
    project("models/ldm/demo/model.ckpt", "own/mine.ckpt")
    assert names(tmp_path / "own/mine.ckpt", "models/ldm/demo/model.ckpt") == ["demo", "mine"]


@pytest.mark.parametrize("name", ["models/ldm/demo/model.ckpt", "../x", "", "/etc/passwd"])
def test_what_is_not_on_the_menu_is_refused(project, name):
    project("models/ldm/demo/model.ckpt")
    with pytest.raises(UserError, match=f"expected one of: demo.*{FOLDERS[0]}"):
        checkpoint_named(name)


def test_an_entry_is_described_without_its_weights():
    assert described(checkpoint_named("demo")).size == 64


def test_a_model_without_words_is_refused_by_name(project, tmp_path):
    project("models/ldm/faces/model.ckpt")
    from ldm.pipelines.models import ROOT

    text = (ROOT / "models/ldm/celeba256/config.yaml").read_text()
    (tmp_path / "models/ldm/faces/config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"without a text encoder|draws from words"):
        described(checkpoint_named("faces"))

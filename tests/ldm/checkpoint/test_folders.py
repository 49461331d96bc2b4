"""A model is found through links and in any case of endings; else the reason is told."""

from __future__ import annotations

import pytest

from ldm.checkpoint.folders import check_model, find_model_files
from ldm.errors import UserError


def model(folder, ckpt="model.ckpt", config="config.yaml"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ckpt).write_bytes(b"weights")
    (folder / config).write_text("model: {}")
    return folder


@pytest.mark.parametrize("ckpt", ["model.ckpt", "model.CKPT", "model.SafeTensors", "last.Ckpt"])
@pytest.mark.parametrize("config", ["config.yaml", "config.yml", "config.YAML", "config.Yml"])
def test_a_folders_files_are_found_in_any_case(tmp_path, ckpt, config):
    files = find_model_files(model(tmp_path, ckpt, config))
    assert files.ckpt == tmp_path / ckpt and files.configs == (tmp_path / config,)


def test_a_link_to_a_runs_checkpoint_finds_the_runs_configuration(tmp_path):
    run = tmp_path / "run"
    model(run / "configs", "unused", "2026-project.yaml")
    model(run / "checkpoints", "last.ckpt")
    (tmp_path / "best.ckpt").symlink_to(run / "checkpoints" / "last.ckpt")
    files = find_model_files(tmp_path / "best.ckpt")
    assert files.configs == (run / "configs" / "2026-project.yaml",) and files.folder == run


def test_a_link_to_a_zoos_checkpoint_finds_the_yaml_beside_its_target(tmp_path):
    model(tmp_path / "zoo", "model.ckpt", "config.yml")
    (tmp_path / "mine.ckpt").symlink_to("zoo/model.ckpt")
    files = find_model_files(tmp_path / "mine.ckpt")
    assert files.configs == (tmp_path / "zoo" / "config.yml",)


@pytest.fixture
def places(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "pointer").symlink_to("folder/absent.ckpt")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "is a folder without model_index.json, so no diffusers model"),
        ("broken", "is a broken link: its target nowhere does not exist"),
        ("pointer", "is a broken link: its target folder/absent.ckpt does not exist"),
        ("circle", "leads into a circle of links"),
        ("file/below", "file, which is no folder"),
        ("x" * 300, "has a name that is too long"),
        ("absent", "--ckpt: there is no file"),
    ],
)
def test_what_is_no_model_is_called_what_it_is(places, name, reason):
    with pytest.raises(UserError) as caught:
        check_model(places / name, name, "--ckpt")
    assert reason in str(caught.value)
    if name != "absent":
        assert "no file" not in str(caught.value)


def test_a_file_and_a_diffusers_folder_are_models(places):
    assert check_model(places / "file", "file", "--ckpt") == places / "file"
    (places / "folder" / "model_index.json").write_text("{}")
    assert check_model(places / "folder", "folder", "--ckpt") == places / "folder"

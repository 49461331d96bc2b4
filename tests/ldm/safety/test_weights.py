"""Where the safety checker is looked for."""

from __future__ import annotations

import errno
import os

import pytest

from ldm.checkpoint.download.hub_cache import hub_cache
from ldm.errors import UserError
from ldm.safety import weights
from ldm.safety.weights import find_weights


def hub_folder(cache, repository="CompVis--stable-diffusion-safety-checker", revision="abc"):
    return cache / f"models--{repository}" / "snapshots" / revision


def test_a_machine_without_a_checker_has_none():
    assert find_weights() is None


@pytest.mark.parametrize(
    ("repository", "sub_folder"),
    [
        ("CompVis--stable-diffusion-safety-checker", "."),
        ("stable-diffusion-v1-5--stable-diffusion-v1-5", "safety_checker"),
    ],
)
def test_a_checker_in_the_hubs_cache_is_found(write_checker, repository, sub_folder):
    folder = write_checker(hub_folder(hub_cache(), repository) / sub_folder)
    assert find_weights().weights == folder / "pytorch_model.bin"


def test_the_revision_that_main_names_comes_before_newer_ones(write_checker):
    repository = hub_folder(hub_cache()).parents[1]
    main = write_checker(repository / "snapshots" / "old")
    newer = write_checker(repository / "snapshots" / "new")
    os.utime(main, (1, 1))
    assert find_weights().config.parent == newer
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("old\n")
    assert find_weights().config.parent == main


def test_a_revision_whose_download_stopped_is_passed_over(write_checker):
    write_checker(hub_folder(hub_cache(), revision="whole"))
    broken = write_checker(hub_folder(hub_cache(), revision="broken"))
    (broken / "pytorch_model.bin").unlink()
    (broken / "pytorch_model.bin").symlink_to("../../blobs/missing")
    assert find_weights().config.parent.name == "whole"


def test_the_projects_own_folder_comes_first(write_checker):
    write_checker(hub_folder(hub_cache()))
    own = write_checker(weights.LOCAL_FOLDER)
    assert find_weights().config.parent == own


def test_safetensors_come_before_pickles(write_checker, tmp_path):
    write_checker(tmp_path)
    write_checker(tmp_path, weights="model.safetensors")
    assert find_weights(tmp_path).weights.name == "model.safetensors"


def test_the_folder_of_a_diffusers_model_may_be_given(write_checker, tmp_path):
    folder = write_checker(tmp_path / "safety_checker")
    (tmp_path / "feature_extractor").mkdir()
    preprocessor = tmp_path / "feature_extractor" / "preprocessor_config.json"
    (folder / "preprocessor_config.json").rename(preprocessor)
    files = find_weights(tmp_path)
    assert files.weights.parent == folder
    assert files.preprocessor == preprocessor


@pytest.mark.parametrize("kind", ["missing", "empty", "without config", "without weights"])
def test_a_given_folder_without_a_checker_is_one_line(write_checker, tmp_path, kind):
    folder = tmp_path / "mine"
    if kind == "empty":
        folder.mkdir()
    elif kind != "missing":
        write_checker(folder)
        (folder / {"without config": "config.json"}.get(kind, "pytorch_model.bin")).unlink()
    with pytest.raises(UserError, match=r"mine .*download_models\.py safety-checker"):
        find_weights(folder)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.ESTALE, errno.EIO])
def test_a_home_that_may_not_be_looked_into_has_no_checker(monkeypatch, write_checker, number):
    """As in a container that runs as another user than its HOME belongs to."""
    write_checker(hub_folder(hub_cache()))
    assert find_weights() is not None

    def refused(act):
        def asked(path, *args, **options):
            if isinstance(path, str | os.PathLike) and str(hub_cache()) in str(path):
                raise OSError(number, os.strerror(number), str(path))
            return act(path, *args, **options)

        return asked

    for name in ("stat", "lstat", "listdir", "scandir"):
        monkeypatch.setattr(os, name, refused(getattr(os, name)))
    assert find_weights() is None


def test_a_home_with_a_name_that_cannot_be_has_no_checker(monkeypatch):
    for home in ("x" * 300, "/dev/null/home", "~nobody-at-all"):
        monkeypatch.setenv("HF_HUB_CACHE", home)
        assert find_weights() is None


def test_the_named_revision_may_be_unreadable(write_checker):
    repository = hub_folder(hub_cache()).parents[1]
    write_checker(repository / "snapshots" / "old")
    (repository / "refs" / "main").mkdir(parents=True)
    assert find_weights() is not None


def test_a_folder_that_was_asked_for_is_refused_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken").symlink_to("nowhere")
    reasons = {"file": "is a file", "broken": "broken link", "x" * 300: "too long", "no": "exist"}
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason):
            find_weights(tmp_path / name)

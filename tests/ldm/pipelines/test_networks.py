"""Networks that a run names: found by path or by name, and looked for before a model is loaded."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.pipelines.networks import find_restorer
from ldm.pipelines.request import prepare_from_flags
from ldm.settings.generation import Txt2ImgSettings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"restore_faces": "nowhere"}, "--restore_faces 'nowhere' is no file, and models/faces"),
        ({"restore_faces": "/nowhere/x.pth"}, "--restore_faces '/nowhere/x.pth' does not exist"),
        ({"face_detector": "/nowhere/y.onnx"}, "the face detector /nowhere/y.onnx does not exist"),
        (
            {"decoder": "/nowhere/d.pth"},
            "--decoder '/nowhere/d.pth' does not exist; expected the f",
        ),
        ({"hires": 2.0, "hires_upscaler": "/nowhere/z.pth"}, "--hires_upscaler '/nowhere/z.pth' d"),
    ],
)
def test_a_file_that_is_not_there_is_told_before_a_model_is_loaded(
    tiny_ckpt, tmp_path, changes, words
):
    (tmp_path / "x.pth").write_bytes(b"no network")
    given = {"prompt": "a", "ckpt": str(tiny_ckpt), "restore_faces": str(tmp_path / "x.pth")}
    prepare_from_flags(Txt2ImgSettings, given)
    with pytest.raises(UserError, match=words):
        prepare_from_flags(Txt2ImgSettings, {**given, **changes})


def test_a_network_goes_by_its_name_in_the_folder_for_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "models/faces/mine.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert find_restorer("mine").samefile(path)

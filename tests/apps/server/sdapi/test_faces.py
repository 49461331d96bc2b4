"""AUTOMATIC1111's ``restore_faces``: by a network on the server's shelf, or refused in a line."""

from __future__ import annotations

import json

import pytest
from flat_server import asked, flat_service

from ldm.pipelines import adapter_files

SMALL = {"prompt": "a cat", "width": 64, "height": 64, "steps": 1}


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A client of a server whose models lie in a folder of the test, what draws, that folder."""
    monkeypatch.setattr(adapter_files, "ROOT", tmp_path)
    service, drawer = flat_service()
    with asked(service) as client:
        yield client, drawer, tmp_path / "models/faces"


def put(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def draw(served, path="txt2img", **given):
    client, drawer, _ = served
    answer = client.post(f"/sdapi/v1/{path}", json={**SMALL, **given})
    if answer.status_code != 200:
        return answer.json()["error"], answer.status_code
    return json.loads(answer.json()["info"]), drawer.drawn[-1].settings.restore_faces


def test_without_a_network_it_is_refused_in_a_line_that_says_what_is_missing(served):
    put(served[2], "face_detection_yunet_2023mar.onnx")
    text, status = draw(served, restore_faces=True)
    assert status == 422 and "GFPGAN" in text and "models/faces" in text and "\n" not in text
    assert str(served[2]) not in text
    assert draw(served, restore_faces=False)[1] is None
    assert served[0].get("/sdapi/v1/face-restorers").json() == []


@pytest.mark.parametrize(
    ("named", "used"),
    [
        (None, "GFPGANv1.4"),
        ("CodeFormer", "codeformer-v0.1.0"),
        ("GFPGAN", "GFPGANv1.4"),
        ("RestoreFormer", "RestoreFormer"),
    ],
)
def test_a_network_is_the_first_or_the_named_one_and_the_answer_says_which(served, named, used):
    put(served[2], "RestoreFormer.pth", "RestoreFormer_v2.ckpt", "GFPGANv1.4.pth")
    put(served[2], "codeformer-v0.1.0.pth")
    chosen = {} if named is None else {"override_settings": {"face_restoration_model": named}}
    info, drawn = draw(served, restore_faces=True, **chosen)
    assert drawn == used
    assert (info["restore_faces"], info["face_restoration_model"]) == (True, used)
    info, drawn = draw(served, **chosen)
    assert (info["restore_faces"], info["face_restoration_model"], drawn) == (False, None, None)


def test_an_option_names_the_network_for_the_requests_that_follow(served):
    put(served[2], "GFPGANv1.4.pth", "codeformer.pth")
    listed = served[0].get("/sdapi/v1/face-restorers").json()
    assert [each["name"] for each in listed] == ["GFPGANv1.4", "codeformer"]
    options = {"face_restoration_model": "codeformer"}
    assert served[0].post("/sdapi/v1/options", json=options).status_code == 200
    assert served[0].get("/sdapi/v1/options").json()["face_restoration_model"] == "codeformer"
    assert draw(served, restore_faces=True)[1] == "codeformer"


@pytest.mark.parametrize("name", ["nobody", "../secret", "/etc/passwd", "models/faces/../x"])
def test_only_what_lies_on_the_shelf_can_be_named(served, name):
    put(served[2], "GFPGANv1.4.pth")
    (served[2].parent / "secret.pth").touch()
    options = {"face_restoration_model": name}
    text, status = draw(served, restore_faces=True, override_settings=options)
    assert status == 422 and "face_restoration_model" in text
    own = served[0].post("/v1/jobs", json={"prompt": "a cat", "restore_faces": name})
    assert own.status_code == 422 and str(served[2]) not in own.text


def test_what_is_neither_true_nor_false_is_refused(served):
    put(served[2], "GFPGANv1.4.pth")
    assert "restore_faces 'please'" in draw(served, restore_faces="please")[0]

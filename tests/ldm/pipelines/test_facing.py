"""Faces in drawn pictures: redrawn before all else, recorded, and drawn again from the record."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawing import draw, image_settings, pixels_of, text_settings
from face_files import restorer_of
from PIL import Image

from ldm.errors import UserError
from ldm.faces.placing import TEMPLATE, Face
from ldm.images.io import save_picture
from ldm.pipelines import adapter_files, facing, models, source_files
from ldm.pipelines.cancelling import Cancel, Cancelled
from ldm.pipelines.grouping import can_share
from ldm.pipelines.infotext import read_picture
from ldm.pipelines.progress import Notice
from ldm.pipelines.source_files import detector_file
from ldm.settings.faces import CASCADE, FACE_DETECTOR
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.inpaint import InpaintSettings

EYES = TEMPLATE * (16 / 512)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """The file of a network that paints faces white; every picture has one, 16 pixels wide."""
    path = tmp_path / "white.pth"
    path.write_bytes(b"weights")
    white = replace(restorer_of(lambda x: (torch.ones_like(x), None), "GFPGAN"), path=path)
    white.network.model = lambda x, **_: (torch.ones_like(x), None)
    monkeypatch.setattr(facing, "_loaded", lambda *_: white)
    seen = [Face((0.0, 0.0, 16.0, 16.0), EYES, 1.0)]
    monkeypatch.setattr(facing, "detector_of", lambda _: lambda _: seen)
    monkeypatch.setattr(source_files, "FACE_DETECTOR", str(tmp_path / "absent.onnx"))
    return path


def one(**changes):
    return text_settings(n_samples=1, n_iter=1, **changes)


def test_faces_are_redrawn_and_nothing_else_of_the_picture_changes(pipeline, network):
    (plain,), _ = draw(pipeline, one())
    (picture,), events = draw(pipeline, one(restore_faces=str(network)))
    assert (picture.pixels[6:10, 6:10] == 255).all()
    assert np.array_equal(picture.pixels[17:], plain.pixels[17:])
    told = [event.text for event in events if isinstance(event, Notice)]
    assert any("Faces are redrawn by white (GFPGAN), fidelity 0" in text for text in told)


def test_later_pictures_are_drawn_from_the_same_noise_as_without(pipeline, network):
    plain = pixels_of(draw(pipeline, text_settings(n_samples=1, n_iter=2))[0])
    drawn = pixels_of(
        draw(pipeline, text_settings(n_samples=1, n_iter=2, restore_faces=str(network)))[0]
    )
    assert np.array_equal(plain[1][17:], drawn[1][17:])


def test_the_part_that_a_mask_keeps_is_kept_also_in_a_face(pipeline, network):
    given = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    mask = Image.new("L", given.size, 0)
    mask.paste(255, (8, 0, 64, 64))
    settings = image_settings(None, restore_faces=str(network), n_samples=1, n_iter=1)
    values = {k: getattr(settings, k) for k in ("prompt", "restore_faces", "ddim_steps")}
    settings = InpaintSettings(**values, n_samples=1, n_iter=1)
    (picture,), _ = draw(pipeline, settings, image=given, mask=mask)
    assert np.array_equal(picture.plain[:, :8], np.asarray(given)[:, :8])
    assert (picture.plain[7:9, 9:11] == 255).all()


def test_a_picture_without_a_face_is_said_and_left(pipeline, network, monkeypatch):
    monkeypatch.setattr(facing, "detector_of", lambda _: lambda _: [])
    (plain,), _ = draw(pipeline, one())
    (picture,), events = draw(pipeline, one(restore_faces=str(network)))
    assert np.array_equal(picture.pixels, plain.pixels)
    told = [event.text for event in events if isinstance(event, Notice)]
    assert "Picture 1: no face was found, and nothing redrawn." in told


@pytest.mark.parametrize("detector", [None, "yunet.onnx"])
def test_a_picture_records_what_redraws_it(pipeline, network, tmp_path, monkeypatch, detector):
    if detector is not None:
        detector = str(tmp_path / detector)
        shutil.copy(network, detector)
    settings = one(restore_faces=str(network), face_fidelity=0.25, face_detector=detector)
    (picture,), _ = draw(pipeline, settings)
    assert "Face restoration: GFPGAN, " in picture.parameters  # as AUTOMATIC1111 writes it
    save_picture(picture.pixels, tmp_path / "a.png", metadata=picture.parameters)
    recorded = read_picture(str(tmp_path / "a.png"), Txt2ImgSettings)
    assert not recorded.notices
    assert recorded.values["restore_faces"] == str(network)
    assert recorded.values["face_fidelity"] == 0.25
    assert recorded.values["face_detector"] == (detector or CASCADE)
    again = {name: recorded.values[name] for name in ("restore_faces", "face_fidelity")}
    (redrawn,), _ = draw(pipeline, one(**again, face_detector=detector or CASCADE))
    assert np.array_equal(redrawn.pixels, picture.pixels)
    network.write_bytes(b"others")
    with pytest.raises(UserError, match="has changed since.*--restore_faces"):
        read_picture(str(tmp_path / "a.png"), Txt2ImgSettings)


def test_a_network_goes_by_its_name_in_models_and_is_recorded_without_the_projects_folder(
    pipeline, network, tmp_path, monkeypatch
):
    project = tmp_path / "project"
    (project / "models/faces").mkdir(parents=True)
    placed = shutil.copy(network, project / "models/faces/white.pth")
    for module in (adapter_files, models, source_files):
        monkeypatch.setattr(module, "ROOT", project)
    white = replace(facing._loaded(), path=Path(placed))
    monkeypatch.setattr(facing, "_loaded", lambda path, *_: replace(white, path=path))
    (picture,), _ = draw(pipeline, one(restore_faces="white"))
    assert "Face restorer: models/faces/white.pth" in picture.parameters
    assert str(project) not in picture.parameters
    save_picture(picture.pixels, tmp_path / "a.png", metadata=picture.parameters)
    recorded = read_picture(str(tmp_path / "a.png"), Txt2ImgSettings)
    assert Path(placed).samefile(recorded.values["restore_faces"])
    with pytest.raises(UserError, match="'nobody' is no file, and models/faces has no"):
        draw(pipeline, one(restore_faces="nobody"))


def test_pictures_whose_faces_are_redrawn_are_drawn_alone(pipeline, network):
    alone = {"n_samples": 1, "n_iter": 1, "seed_mode": "per-image"}
    assert can_share(pipeline.prepare(text_settings(**alone)))
    assert not can_share(pipeline.prepare(text_settings(**alone, restore_faces=str(network))))


def test_another_programs_restoration_is_named_as_not_done(pipeline, tmp_path):
    (picture,), _ = draw(pipeline, one())
    text = picture.parameters.partition(", Batch size")[0] + ", Face restoration: CodeFormer"
    save_picture(picture.pixels, tmp_path / "a.png", metadata=text)
    recorded = read_picture(str(tmp_path / "a.png"), Txt2ImgSettings)
    assert any("Face restoration" in text for text in recorded.notices)
    assert "restore_faces" not in recorded.values


def test_redrawing_ends_within_an_operation_of_being_cancelled(pipeline, network, monkeypatch):
    cancel, calls = Cancel(), []

    class Slow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Conv2d(3, 3, 1) for _ in range(4))

        def forward(self, x, **_):
            for layer in self.layers:
                x = layer(x)
                calls.append(layer)
                if len(calls) == 2:
                    cancel.cancel("enough")
            return x, None

    white = facing._loaded()
    monkeypatch.setattr(white.network, "model", Slow())
    with pytest.raises(Cancelled, match="enough"):
        draw(pipeline, one(restore_faces=str(network)), cancel=cancel)
    assert len(calls) == 2


def test_the_usual_detector_is_taken_where_it_is_and_none_is_named(tmp_path, monkeypatch):
    usual = tmp_path / FACE_DETECTOR
    monkeypatch.chdir(tmp_path)
    assert detector_file(CASCADE) is None
    usual.parent.mkdir(parents=True)
    usual.write_bytes(b"")
    assert detector_file(None).samefile(usual) and detector_file(CASCADE) is None
    assert str(detector_file("own.onnx")) == "own.onnx"


def test_settings_without_a_network_say_that_they_do_nothing():
    notices = one(face_fidelity=0.5, face_detector="x.onnx").notices()
    assert "--face_fidelity 0.5 has no effect without --restore_faces" in notices
    assert "--face_detector x.onnx has no effect without --restore_faces" in notices


def test_a_file_that_is_no_network_is_told_before_anything_is_drawn(pipeline, tmp_path):
    (tmp_path / "x.pth").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"x\.pth"):
        draw(pipeline, one(restore_faces=str(tmp_path / "x.pth")))
    with pytest.raises(UserError, match="does not exist"):
        draw(pipeline, one(restore_faces=str(tmp_path / "none.pth")))

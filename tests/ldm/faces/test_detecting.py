from __future__ import annotations

import sys

import numpy as np
import pytest
from face_files import EYES, astronaut, write_onnx, write_yunet
from PIL import Image

from ldm.errors import UserError
from ldm.faces.detecting import LOOKED_AT, _is_face, _read_cascade, cascade, detector_of, yunet


@pytest.fixture(scope="module")
def photo():
    return astronaut()


def test_the_cascade_finds_the_face_and_its_eyes(photo):
    (face,) = cascade()(photo)
    assert np.abs(face.points - EYES).max() <= 4
    left, top, width, height = face.box
    assert left < 200 and left + width > 250 and 50 < top < 90 and 70 < height < 130


def test_faces_of_a_larger_picture_are_told_in_its_own_pixels(photo):
    head = photo.crop((130, 20, 330, 220))
    large = head.resize((1600, 1600), Image.Resampling.BICUBIC)
    assert max(large.size) > LOOKED_AT
    (face,) = cascade()(large)
    assert np.abs(face.points / 8 + (130, 20) - EYES).max() <= 4


def test_no_face_is_found_where_there_is_none():
    from skimage import data

    helmet = astronaut().crop((256, 256, 512, 512))  # shines in patterns like a face's
    noise = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
    for picture in (helmet, Image.fromarray(data.chelsea()).crop((0, 0, 250, 250))):
        assert cascade()(picture) == []
    for picture in (Image.fromarray(noise), Image.new("RGB", (3, 900)), Image.new("L", (64, 64))):
        assert cascade()(picture) == []


def test_yunets_five_points_are_read_as_opencv_tells_them(tmp_path, capfd):
    write_yunet(tmp_path / "yunet.onnx")
    (face,) = yunet(tmp_path / "yunet.onnx")(Image.new("RGB", (320, 320)))
    assert capfd.readouterr().err == ""  # nothing of OpenCV's own
    assert np.allclose(face.box, (128, 80, 80, 96), atol=0.1)
    points = [(152, 112), (184, 112), (168, 130), (156, 150), (180, 150)]
    assert np.allclose(face.points, points, atol=0.1) and face.score > 0.99


@pytest.mark.parametrize(
    "change",
    [
        {4: np.nan},
        {14: np.nan},
        {0: np.inf},
        {column: 50.0 for column in range(4, 14)},
        {5: 1e9},
        {2: 1e9},
    ],
    ids=["no number", "no score", "infinite", "one point", "points far away", "a huge box"],
)
def test_what_a_damaged_yunet_computes_is_no_face(change):
    row = np.array([128, 80, 80, 96, 152, 112, 184, 112, 168, 130, 156, 150, 180, 150, 1.0])
    assert _is_face(row, 320)
    for column, value in change.items():
        row[column] = value
    assert not _is_face(row, 320)


@pytest.mark.parametrize("kind", ["absent", "text", "another network"])
def test_a_file_that_is_no_yunet_is_told_in_one_line(tmp_path, kind):
    path = tmp_path / "x.onnx"
    if kind == "text":
        path.write_text("no network")
    if kind == "another network":
        write_onnx(path, {"y": np.zeros((1, 2))})
    with pytest.raises(UserError, match="x.onnx.*expected YuNet's ONNX file") as told:
        detector_of(path)
    assert "\n" not in str(told.value)


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    _read_cascade.cache_clear()
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(UserError, match=r"needs the package scikit-image.*\[repair\]"):
        detector_of(None)

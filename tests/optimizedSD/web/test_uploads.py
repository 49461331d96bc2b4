"""Uploads become files under names of their own; only pictures are handed out."""

from __future__ import annotations

import io
import os

import pytest
from PIL import Image

from ldm.errors import UserError
from optimizedSD.web.uploads import Uploads, shown_picture


def encoded(kind: str, size: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), "red").save(buffer, kind)
    return buffer.getvalue()


KINDS = [
    ("PNG", "png", "image/png"),
    ("JPEG", "jpg", "image/jpeg"),
    ("WEBP", "webp", "image/webp"),
    ("GIF", "gif", "image/gif"),
    ("BMP", "bmp", "image/bmp"),
    ("TIFF", "tiff", None),
    ("PPM", "ppm", None),
]


@pytest.mark.parametrize(("kind", "extension", "shown"), KINDS)
def test_each_format_is_taken_and_shown_if_browsers_can(kind, extension, shown, tmp_path):
    path = Uploads(tmp_path).take(io.BytesIO(encoded(kind)))
    assert path.suffix == f".{extension}"
    assert path.read_bytes() == encoded(kind)
    found = shown_picture(str(path), [tmp_path])
    assert found == ((path, shown) if shown else None)


@pytest.mark.parametrize("brand", [b"avif", b"avis"])
def test_avif_is_taken(brand, tmp_path):
    assert Uploads(tmp_path).take(io.BytesIO(b"\0\0\0\x20ftyp" + brand)).suffix == ".avif"


@pytest.mark.parametrize("content", [b"", b"<svg/>", b"%!PS", b"RIFF....WAVE", b"BMW is a car"])
def test_nothing_else_is_taken(content, tmp_path):
    with pytest.raises(UserError, match="no picture"):
        Uploads(tmp_path).take(io.BytesIO(content))
    assert not list(tmp_path.iterdir())


def test_the_same_picture_twice_is_one_file(tmp_path):
    uploads = Uploads(tmp_path)
    assert uploads.take(io.BytesIO(encoded("PNG"))) == uploads.take(io.BytesIO(encoded("PNG")))
    assert len(list(tmp_path.iterdir())) == 1


def test_the_oldest_go_when_they_are_too_many_and_the_newest_never(tmp_path):
    contents = [encoded("BMP", size) for size in (20, 21, 22)]
    uploads = Uploads(tmp_path, most=len(contents[1]) + len(contents[2]))
    paths = []
    for age, content in enumerate(contents):
        paths.append(uploads.take(io.BytesIO(content)))
        os.utime(paths[-1], (age, age))
    assert [path.exists() for path in paths] == [False, True, True]
    large = uploads.take(io.BytesIO(encoded("BMP", 200)))
    assert list(tmp_path.iterdir()) == [large]


def test_only_what_was_uploaded_is_held(tmp_path):
    uploads = Uploads(tmp_path / "uploads")
    path = uploads.take(io.BytesIO(encoded("PNG")))
    assert uploads.holds(str(path))
    other = path.parent / "other.png"
    other.write_bytes(encoded("PNG"))
    beside = tmp_path / path.name
    beside.write_bytes(encoded("PNG"))
    for wrong in (beside, other, path.parent / f"../{path.name}", "", path.name):
        assert not uploads.holds(str(wrong))
    path.unlink()
    assert not uploads.holds(str(path))


def test_a_picture_in_a_folder_of_that_name_is_not_inside(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out-other").mkdir()
    path = tmp_path / "out-other" / "a.png"
    path.write_bytes(encoded("PNG"))
    assert shown_picture(str(path), [tmp_path / "out"]) is None
    assert shown_picture(str(path), [tmp_path / "out-other"]) == (path, "image/png")


def test_a_folder_of_pictures_may_be_reached_by_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.JPEG").write_bytes(encoded("JPEG"))
    (tmp_path / "out").symlink_to(tmp_path / "real")
    found = shown_picture(str(tmp_path / "out" / "a.JPEG"), [tmp_path / "out"])
    assert found == (tmp_path / "real" / "a.JPEG", "image/jpeg")

"""Plain folders, and folders of classes."""

from __future__ import annotations

import pytest
from small_pictures import flat, save

from ldm.data.folder import ClassFolder, ImageFolder
from ldm.errors import UserError


def test_all_pictures_under_a_folder_are_items_in_a_fixed_order(tmp_path):
    for name in ("b.png", "a/z.jpg", "a/y/x.webp"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    data = ImageFolder(str(tmp_path), [8, 12])
    names = [item["file_path_"].removeprefix(f"{tmp_path}/") for item in data]
    assert names == ["a/y/x.webp", "a/z.jpg", "b.png"]
    assert data[0]["image"].shape == (8, 12, 3)


def test_classes_are_numbered_by_the_names_of_their_folders(tmp_path):
    flat(tmp_path / "dog" / "1.png", (0, 0, 0))
    flat(tmp_path / "cat" / "deeper" / "1.png", (255, 255, 255))
    save(tmp_path / "stray.png")
    (tmp_path / "empty").mkdir()
    data = ClassFolder(str(tmp_path), 8)
    labels = [(item["class_label"], item["human_label"]) for item in data]
    assert labels == [(0, "cat"), (1, "dog")]
    assert [float(item["image"].mean()) for item in data] == [1.0, -1.0]


def test_numbers_can_be_given_so_that_two_folders_agree(tmp_path):
    save(tmp_path / "dog" / "1.png")
    save(tmp_path / "bird" / "1.png")
    data = ClassFolder(str(tmp_path), 8, class_names=["cat", "dog"])
    assert [(item["class_label"], item["human_label"]) for item in data] == [(1, "dog")]


def test_a_folder_without_classes_is_refused(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(UserError, match="no pictures in folders of classes"):
        ClassFolder(str(tmp_path), 8)

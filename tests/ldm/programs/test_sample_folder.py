"""The layout of a run's samples, and the array that is made of the files."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ldm.errors import UserError
from ldm.programs.sample_folder import SampleFolder


def pictures(count: int, side: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side + 1, 3), dtype=np.uint8)


def filled(folder: SampleFolder, numbers) -> np.ndarray:
    drawn = pictures(len(numbers))
    for number, picture in zip(numbers, drawn, strict=True):
        folder.save(picture, number)
    return drawn


def test_a_run_has_the_references_folders(tmp_path):
    folder = SampleFolder.new(tmp_path, 1234)
    assert folder.folder.parent == tmp_path / "samples" / "00001234"
    assert re.fullmatch(r"\d{4}(-\d\d){5}(-\d+)?", folder.folder.name)
    filled(folder, [0, 1])
    assert folder.write_array() == folder.folder / "numpy" / "2x4x5x3-samples.npz"
    assert sorted(p.name for p in (folder.folder / "img").iterdir()) == [
        "sample_000000.png",
        "sample_000001.png",
    ]


def test_two_runs_of_one_second_do_not_share_a_folder(tmp_path):
    folders = {SampleFolder.new(tmp_path, 0).folder for _ in range(4)}
    assert len(folders) == 4


def test_the_array_holds_the_pictures_in_order_and_their_classes(tmp_path):
    folder = SampleFolder(tmp_path)
    drawn = filled(folder, [2, 0, 1])
    arrays = np.load(folder.write_array(lambda number: number * 10))
    assert arrays["arr_0"].dtype == np.uint8
    assert np.array_equal(arrays["arr_0"], drawn[[1, 2, 0]])
    assert arrays["arr_1"].tolist() == [0, 10, 20]


def test_a_longer_array_takes_the_place_of_the_shorter(tmp_path):
    folder = SampleFolder(tmp_path)
    filled(folder, [0, 1])
    folder.write_array()
    filled(folder, [2])
    folder.write_array()
    assert [p.name for p in folder.numpy.iterdir()] == ["3x4x5x3-samples.npz"]


def test_numbers_go_on_after_the_highest_also_past_a_million(tmp_path):
    folder = SampleFolder(tmp_path)
    assert folder.next_number() == 0
    filled(folder, [0, 5])
    assert folder.next_number() == 6
    filled(folder, [999_999, 1_000_000])
    assert folder.next_number() == 1_000_001
    assert list(folder.pictures()) == [0, 5, 999_999, 1_000_000]


def test_without_pictures_there_is_no_array(tmp_path):
    assert SampleFolder(tmp_path / "empty").write_array() is None
    assert not (tmp_path / "empty").exists()


def test_pictures_of_two_sizes_are_told_and_leave_no_array(tmp_path):
    folder = SampleFolder(tmp_path)
    filled(folder, [0])
    folder.save(pictures(1, side=8)[0], 1)
    with pytest.raises(UserError, match="another size"):
        folder.write_array()
    assert list(folder.numpy.iterdir()) == []


def test_a_picture_is_never_replaced(tmp_path):
    folder = SampleFolder(tmp_path)
    filled(folder, [3])
    with pytest.raises(UserError, match="already exists"):
        filled(folder, [3])


def test_settings_come_back_as_they_were_written(tmp_path):
    values = {"n_samples": 3, "class_label": [1, 2], "prompt": "a ${cat}: 1", "eta": None}
    SampleFolder(tmp_path).write_config(values)
    assert SampleFolder(tmp_path).read_config() == values
    with pytest.raises(UserError, match="sampling_config.yaml is not there"):
        SampleFolder(tmp_path / "elsewhere").read_config()


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "samples").write_text("")
    with pytest.raises(UserError, match="cannot be written to"):
        SampleFolder.new(tmp_path, 0)

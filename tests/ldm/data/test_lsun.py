"""LSUN's lists of pictures, prepared as the reference prepares them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from small_pictures import noise, save

from ldm.data import lsun
from ldm.errors import UserError

SPLITS = [f"LSUN{what}" for what in ("Churches", "Bedrooms", "Cats")]


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A folder with two pictures and their list, where CompVis has the churches."""
    monkeypatch.chdir(tmp_path)
    for k in range(2):
        save(tmp_path / "data" / "lsun" / "churches" / f"{k}.png", noise(21, 34, k))
    (tmp_path / "data" / "lsun" / "church_outdoor_train.txt").write_text("1.png\n0.png\n\n")
    return tmp_path


def test_the_list_gives_the_order_and_the_names(listed):
    data = lsun.LSUNChurchesTrain(size=16)
    assert [item["relative_file_path_"] for item in data] == ["1.png", "0.png"]
    assert data[0]["image"].shape == (16, 16, 3)
    assert data[0]["file_path_"].endswith("churches/1.png")


@pytest.mark.parametrize(
    ("name", "method"),
    [("linear", "BILINEAR"), ("bilinear", "BILINEAR"), ("bicubic", "BICUBIC")]
    + [("lanczos", "LANCZOS")],
)
def test_a_picture_is_cut_in_the_middle_and_resized_as_by_the_reference(listed, name, method):
    data = lsun.LSUNChurchesTrain(size=16, interpolation=name, flip_p=0.0)
    image = Image.fromarray(noise(21, 34, 1)[:, 6:27])  # (34 - 21) // 2 = 6
    expected = np.array(image.resize((16, 16), getattr(Image.Resampling, method)))
    assert (data[0]["image"] == (expected / 127.5 - 1.0).astype(np.float32)).all()


def test_without_a_size_the_square_keeps_its_pixels(listed):
    assert lsun.LSUNChurchesTrain()[0]["image"].shape == (21, 21, 3)


@pytest.mark.parametrize("split", SPLITS)
def test_training_pictures_are_mirrored_half_of_the_time_and_validation_never(listed, split):
    given = {"txt_file": "data/lsun/church_outdoor_train.txt", "data_root": "data/lsun/churches"}
    assert getattr(lsun, f"{split}Train")(**given).framing.flip_p == 0.5
    assert getattr(lsun, f"{split}Validation")(**given).framing.flip_p == 0.0
    assert getattr(lsun, f"{split}Train")(**given, flip_p=0.25).framing.flip_p == 0.25


def test_a_listed_picture_that_is_gone_is_left_out_and_a_missing_list_is_said(listed):
    (listed / "data" / "lsun" / "churches" / "1.png").unlink()
    data = lsun.LSUNChurchesTrain(size=8)
    assert [item["relative_file_path_"] for item in data] == ["0.png", "0.png"]
    with pytest.raises(UserError, match="bedrooms_val.txt does not exist; expected a list"):
        lsun.LSUNBedroomsValidation(size=8)

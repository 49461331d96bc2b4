"""A drawing is framed as its picture is, whether it is made of it or lies in another folder."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ldm.data.hinted import HintedFolder
from ldm.errors import UserError


@pytest.fixture
def folders(tmp_path):
    """Pictures of noise; the drawing of each is the same picture, or half its size."""
    for number, rate in ((0, 1), (1, 2)):
        noise = np.random.default_rng(number).integers(0, 256, (24, 40, 3), np.uint8)
        picture = Image.fromarray(noise).resize((80, 48), Image.Resampling.BICUBIC)
        for name in ("pictures", "drawings"):
            (tmp_path / name).mkdir(exist_ok=True)
        picture.save(tmp_path / "pictures" / f"{number}.png")
        (tmp_path / "pictures" / f"{number}.txt").write_text(f"noise {number}", encoding="utf-8")
        smaller = picture.resize((80 // rate, 48 // rate), Image.Resampling.BOX)
        smaller.save(tmp_path / "drawings" / f"{number}.webp", lossless=True)
    return str(tmp_path / "pictures"), str(tmp_path / "drawings")


def test_crops_and_flips_are_the_pictures(folders):
    root, drawings = folders
    data = HintedFolder(
        root, 32, hint_root=drawings, random_crop=True, flip_p=0.5, interpolation="bilinear"
    )
    for index, close in ((0, 1 / 250), (1, 0.1)):
        for _ in range(8):
            item = data[index]
            assert item["hint"].shape == item["jpg"].shape == (32, 32, 3)
            apart = np.abs((item["jpg"] + 1) / 2 - item["hint"])
            assert apart.mean() < close
            assert item["txt"] == f"noise {index}"


def test_a_hint_is_made_of_what_is_shown(folders):
    item = HintedFolder(folders[0], 32, hint="invert")[0]
    np.testing.assert_allclose(item["hint"], 1 - (item["jpg"] + 1) / 2, atol=1 / 255)


def test_a_picture_without_a_drawing_of_its_shape_is_left_out(folders, tmp_path):
    root, drawings = folders
    data = HintedFolder(root, 16, hint_root=drawings)
    Image.new("RGB", (50, 50)).save(tmp_path / "drawings" / "0.webp")
    assert data[0]["txt"] == "noise 1"
    assert data.bad_items.count == 1
    (tmp_path / "drawings" / "0.webp").unlink()
    again = HintedFolder(root, 16, hint_root=drawings)
    assert again[0]["txt"] == "noise 1"


@pytest.mark.parametrize("given", [{}, {"hint": "canny", "hint_root": "x"}, {"hint": "cany"}])
def test_exactly_one_kind_of_drawing_is_expected(folders, given):
    with pytest.raises(UserError, match="hint"):
        HintedFolder(folders[0], 16, **given)

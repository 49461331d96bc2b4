"""Pairs for super-resolution: the bad picture is the good one made small, in every way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from small_pictures import break_files, flat, noise, save
from torch.utils.data import DataLoader

from ldm.data.superresolution import DEGRADATIONS, SuperResolutionFolder
from ldm.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

NAMES = """bsrgan bsrgan_light cv_nearest cv_bilinear cv_bicubic cv_area cv_lanczos pil_nearest
    pil_bilinear pil_box pil_hamming pil_bicubic pil_lanczos"""


def test_the_references_degradations_are_all_there():
    assert sorted(DEGRADATIONS) == sorted(NAMES.split())


@pytest.mark.parametrize("name", NAMES.split())
def test_each_degradation_makes_a_small_picture_of_the_same_colour(tmp_path, name):
    flat(tmp_path / "a.png", (200, 100, 50), (90, 70))
    item = SuperResolutionFolder(str(tmp_path), 64, name)[0]
    assert item["LR_image"].shape == (16, 16, 3)
    colour = (np.array([200, 100, 50]) / 127.5 - 1).astype(np.float32)
    assert np.abs(item["image"] - colour).max() == 0
    tolerance = 0.15 if name == "bsrgan" else 0.03  # its noise is meant to be seen
    assert np.abs(item["LR_image"].mean((0, 1)) - colour).max() < tolerance


def test_the_whole_picture_is_taken_where_nothing_is_random(tmp_path):
    save(tmp_path / "a.png", noise(32, 40))
    data = SuperResolutionFolder(
        str(tmp_path), 32, "pil_box", downscale_f=8, min_crop_f=1.0, random_crop=False
    )
    good = noise(32, 40)[:, 4:36]
    item = data[0]
    assert (np.rint((item["image"] + 1) * 127.5) == good).all()
    bad = np.asarray(Image.fromarray(good).resize((4, 4), Image.Resampling.BOX))
    assert (np.rint((item["LR_image"] + 1) * 127.5) == bad).all()


def test_random_choices_follow_the_seed_and_differ_between_items(tmp_path):
    for k in range(4):
        save(tmp_path / f"{k}.png", noise(60, 60, 1))  # the same picture four times
    data = SuperResolutionFolder(str(tmp_path), 32, "bsrgan_light")

    def epoch():
        torch.manual_seed(3)
        loader = DataLoader(data, batch_size=None, num_workers=2)
        return [item["LR_image"].numpy().tobytes() for item in loader]

    first = epoch()
    assert len(set(first)) == 4
    assert first == epoch()


def test_bad_pictures_are_left_out(tmp_path):
    save(tmp_path / "a.png", noise(40, 40))
    bad = break_files(tmp_path)
    save(tmp_path / "pixel.png", noise(1, 1))
    data = SuperResolutionFolder(str(tmp_path), 16, "cv_area")
    assert {item["file_path_"] for item in data} == {str(tmp_path / "a.png")}
    assert data.bad_items.count == len(bad) + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 30}, "size 30 and downscale_f 4 do not go together"),
        ({"min_crop_f": 0.9, "max_crop_f": 0.5}, "min_crop_f 0.9 and max_crop_f 0.5"),
        ({"max_crop_f": 1.5}, "expected 0 < min_crop_f"),
        ({"degradation": "cv_cubic"}, "degradation 'cv_cubic' is not known; expected one of bsrg"),
    ],
)
def test_settings_that_cannot_be_meant_are_said(tmp_path, options, message):
    save(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        SuperResolutionFolder(str(tmp_path), **{"size": 32, "degradation": "cv_area", **options})

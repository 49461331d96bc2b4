"""Random holes: of each kind, somewhere in the picture, and the picture untouched around them."""

from __future__ import annotations

import numpy as np
import pytest
from small_pictures import captioned_folder

from ldm.data.inpainting import CaptionedInpaintingFolder, InpaintingFolder
from ldm.data.masks import random_mask
from ldm.errors import UserError


@pytest.mark.parametrize("kind", ["box", "stroke", "mixed"])
def test_a_mask_is_neither_empty_nor_all(kind):
    for seed in range(50):
        mask = random_mask(kind, 48, 64, np.random.default_rng(seed))
        assert (mask.shape, mask.dtype) == ((48, 64), np.float32)
        assert set(np.unique(mask)) == {0.0, 1.0}


def test_holes_reach_every_part_of_the_picture_and_vary():
    masks = [random_mask("mixed", 32, 32, np.random.default_rng(k)) for k in range(300)]
    often = np.mean(masks, axis=0)
    assert often.min() > 0.02
    assert len({mask.tobytes() for mask in masks}) > 290


def test_boxes_have_straight_sides_and_strokes_have_not():
    def corners(kind):
        """Count places where a mask turns: a box has few, a round brush many."""
        count = 0
        for seed in range(20):
            mask = random_mask(kind, 64, 64, np.random.default_rng(seed))
            count += np.abs(np.diff(np.diff(mask, axis=0), axis=1)).astype(bool).sum()
        return count

    assert corners("stroke") > 2 * corners("box")


def test_the_picture_is_equal_outside_the_hole_and_grey_inside(tmp_path):
    data = InpaintingFolder(str(captioned_folder(tmp_path)), 32)
    item = data[0]
    mask = item["mask"]
    assert mask.shape == (32, 32, 1)
    hole = np.broadcast_to(mask > 0, item["image"].shape)
    assert (item["masked_image"][~hole] == item["image"][~hole]).all()
    assert (item["masked_image"][hole] == -1).all()
    assert item["masked_image"].dtype == np.float32
    # What CompVis's inpaint.py does in [0, 1], on which inpainting_big was trained.
    theirs = (1 - mask) * (item["image"] + 1) / 2 * 2 - 1
    assert np.abs(theirs - item["masked_image"]).max() < 1e-6


def test_captioned_pictures_have_holes_as_stable_diffusion_wants_them(tmp_path):
    data = CaptionedInpaintingFolder(str(captioned_folder(tmp_path)), 32, masks="box")
    item = data[2]
    assert item["txt"] == "picture 2"
    theirs = item["jpg"] * (item["mask"] < 0.5)
    assert (item["masked_image"] == theirs).all()


def test_a_kind_of_mask_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(UserError, match="masks 'boxes' is not known; expected one of box, stroke"):
        InpaintingFolder(str(captioned_folder(tmp_path)), 32, masks="boxes")
    with pytest.raises(UserError, match="hole is 255"):
        InpaintingFolder(str(tmp_path), 32, hole=255)
